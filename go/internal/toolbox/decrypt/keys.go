// Package decrypt opens what SOPS has encrypted, with keys that it is handed and
// never writes anywhere: no key ring on disk, no program. Key services of clouds and
// Vault are called only in a process that was started for it.
package decrypt

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"

	"filippo.io/age"
	"github.com/ProtonMail/go-crypto/openpgp"
	"sigs.k8s.io/yaml"
)

// Names of entries of a decryption Secret.
const (
	ageSuffix  = ".agekey"
	pgpSuffix  = ".asc"
	vaultToken = "sops.vault-token"
	awsKMS     = "sops.aws-kms"
	azureKV    = "sops.azure-kv"
	gcpKMS     = "sops.gcp-kms"
)

// Keys are the private keys to decrypt with.
type Keys struct {
	// Logins serve for Vault where there is no token.
	Logins []Login
	// Identities serve for the clouds that no entry is for.
	Identities []Identity
	identities []age.Identity
	ring       openpgp.EntityList
	vault      string
	aws        *awsAccount
	azure      *azureAccount
	gcp        []byte
}

// awsAccount is an entry for AWS KMS.
type awsAccount struct {
	ID      string `json:"aws_access_key_id"`
	Secret  string `json:"aws_secret_access_key"`
	Session string `json:"aws_session_token"`
}

// azureAccount is an entry for Azure Key Vault, in the names of either generation.
type azureAccount struct {
	Tenant               string `json:"tenantId"`
	Client               string `json:"clientId"`
	Secret               string `json:"clientSecret"`
	Certificate          string `json:"clientCertificate"`
	CertificatePassword  string `json:"clientCertificatePassword"`
	CertificateSendChain bool   `json:"clientCertificateSendChain"`
	OldTenant            string `json:"tenant"`
	OldClient            string `json:"appId"`
	OldSecret            string `json:"password"`
	AuthorityHost        string `json:"authorityHost"`
}

// Import reads the entries of a decryption Secret; entries of other names are
// nothing to it. Errors name the entry and quote nothing of it.
func Import(entries map[string][]byte) (*Keys, error) {
	keys := &Keys{}
	for name, value := range entries {
		if err := keys.add(name, value); err != nil {
			return nil, fmt.Errorf("failed to import '%s' data: %w", name, err)
		}
	}
	return keys, nil
}

func (k *Keys) add(name string, value []byte) error {
	switch name {
	case vaultToken:
		return k.addVault(value)
	case awsKMS:
		return k.addAWS(value)
	case azureKV:
		return k.addAzure(value)
	case gcpKMS:
		return k.addGCP(value)
	}
	switch path.Ext(name) {
	case ageSuffix:
		return k.addAge(value)
	case pgpSuffix:
		return k.addPGP(value)
	}
	return nil
}

func (k *Keys) addAge(value []byte) error {
	text := strings.ReplaceAll(string(value), "\r\n", "\n")
	identities, err := age.ParseIdentities(strings.NewReader(text))
	if err != nil {
		// The library quotes the line, which is the key or most of it.
		return errors.New("it holds a line that is no age identity, or none at all")
	}
	k.identities = append(k.identities, identities...)
	return nil
}

func (k *Keys) addPGP(value []byte) error {
	ring, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(value))
	if err != nil {
		return errors.New("it is no armored OpenPGP key")
	}
	for _, entity := range ring {
		if entity.PrivateKey == nil {
			return errors.New("it holds a public OpenPGP key only")
		}
	}
	k.ring = append(k.ring, ring...)
	return nil
}

var errMalformed = errors.New("it is malformed")

func (k *Keys) addVault(value []byte) error {
	k.vault = strings.TrimSpace(string(value))
	if k.vault == "" {
		return errors.New("the token is empty")
	}
	return nil
}

func (k *Keys) addAWS(value []byte) error {
	account := &awsAccount{}
	if yaml.Unmarshal(value, account) != nil {
		return errMalformed
	}
	if account.ID == "" || account.Secret == "" {
		return errors.New("aws_access_key_id and aws_secret_access_key are required")
	}
	k.aws = account
	return nil
}

func (k *Keys) addAzure(value []byte) error {
	account := &azureAccount{}
	if yaml.Unmarshal(value, account) != nil {
		return errMalformed
	}
	principal := account.Tenant != "" && account.Client != "" && (account.Secret != "" || account.Certificate != "")
	old := account.OldTenant != "" && account.OldClient != "" && account.OldSecret != ""
	managed := account.Client != "" && account.Tenant == ""
	if !principal && !old && !managed {
		return errors.New("it has neither a clientId with tenantId and a secret or certificate, nor appId, tenant " +
			"and password, nor the clientId of a managed identity")
	}
	k.azure = account
	return nil
}

func (k *Keys) addGCP(value []byte) error {
	var account struct {
		Type string `json:"type"`
	}
	if json.Unmarshal(value, &account) != nil || account.Type == "" {
		return errMalformed
	}
	k.gcp = value
	return nil
}
