// Package decrypt opens what SOPS has encrypted, with keys that it is handed and
// never writes anywhere: no key ring on disk, no program, no network.
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
	identities []age.Identity
	ring       openpgp.EntityList
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
		return checkToken(value)
	case awsKMS:
		return checkAWS(value)
	case azureKV:
		return checkAzure(value)
	case gcpKMS:
		return checkGCP(value)
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

func checkToken(value []byte) error {
	if len(bytes.TrimSpace(value)) == 0 {
		return errors.New("the token is empty")
	}
	return nil
}

func checkAWS(value []byte) error {
	var account struct {
		ID      string `json:"aws_access_key_id"`
		Secret  string `json:"aws_secret_access_key"`
		Session string `json:"aws_session_token"`
	}
	if yaml.Unmarshal(value, &account) != nil {
		return errMalformed
	}
	if account.ID == "" || account.Secret == "" {
		return errors.New("aws_access_key_id and aws_secret_access_key are required")
	}
	return nil
}

func checkAzure(value []byte) error {
	var account struct {
		Tenant        string `json:"tenantId"`
		Client        string `json:"clientId"`
		Secret        string `json:"clientSecret"`
		Certificate   string `json:"clientCertificate"`
		OldTenant     string `json:"tenant"`
		OldClient     string `json:"appId"`
		OldSecret     string `json:"password"`
		AuthorityHost string `json:"authorityHost"`
	}
	if yaml.Unmarshal(value, &account) != nil {
		return errMalformed
	}
	principal := account.Tenant != "" && account.Client != "" && (account.Secret != "" || account.Certificate != "")
	old := account.OldTenant != "" && account.OldClient != "" && account.OldSecret != ""
	managed := account.Client != "" && account.Tenant == ""
	if !principal && !old && !managed {
		return errors.New("it has neither a clientId with tenantId and a secret or certificate, nor appId, tenant " +
			"and password, nor the clientId of a managed identity")
	}
	return nil
}

func checkGCP(value []byte) error {
	var account struct {
		Type string `json:"type"`
	}
	if json.Unmarshal(value, &account) != nil || account.Type == "" {
		return errMalformed
	}
	return nil
}
