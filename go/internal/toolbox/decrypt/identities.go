package decrypt

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/getsops/sops/v3/keyservice"

	"headrace.dev/headrace/go/internal/toolbox/fail"
)

// Identity is one that was issued for this call, for keys that no entry of the Secret is for.
type Identity struct {
	fail.Identity
	AccessKey    string `json:"access_key"`
	SecretKey    string `json:"secret_key"`
	SessionToken string `json:"session_token"`
	Token        string `json:"token"`
}

// Providers of identities.
const (
	awsProvider   = "aws"
	azureProvider = "azure"
	gcpProvider   = "gcp"
)

// lent is the identity for a key. Where it is wanted and there is none, that is remembered.
func (s service) lent(key *keyservice.Key) *Identity {
	wanted, needed := s.wanted(key)
	if !needed {
		return nil
	}
	for i := range s.keys.Identities {
		if s.keys.Identities[i].Identity == wanted {
			return &s.keys.Identities[i]
		}
	}
	if !slices.Contains(s.decryptor.wanted, wanted) {
		s.decryptor.wanted = append(s.decryptor.wanted, wanted)
	}
	return nil
}

// wanted is whom a key service has to be shown; false where the Secret has an entry for it, or it is no cloud's.
func (s service) wanted(key *keyservice.Key) (fail.Identity, bool) {
	switch key := key.KeyType.(type) {
	case *keyservice.Key_KmsKey:
		return fail.Identity{Provider: awsProvider, Scope: regionOf(key.KmsKey.Arn)}, s.keys.aws == nil
	case *keyservice.Key_AzureKeyvaultKey:
		return fail.Identity{Provider: azureProvider, Scope: scopeOf(key.AzureKeyvaultKey.VaultUrl)}, s.keys.azure == nil
	case *keyservice.Key_GcpKmsKey:
		return fail.Identity{Provider: gcpProvider}, s.keys.gcp == nil
	}
	return fail.Identity{}, false
}

// regionOf is the region of a key's ARN, empty for what is none.
func regionOf(arn string) string {
	parts := strings.Split(arn, ":")
	if len(parts) < 6 {
		return ""
	}
	return parts[3]
}

// scopeOf is what a token for a vault is issued for: the service is the vault's name without its first part.
func scopeOf(vault string) string {
	parsed, err := url.Parse(vault)
	if err != nil {
		return ""
	}
	_, service, _ := strings.Cut(parsed.Host, ".")
	return "https://" + service + "/.default"
}

// GetToken gives the token for nothing but what it was issued for: whoever the vault's URL leads to could ask for it.
func (i *Identity) GetToken(_ context.Context, asked policy.TokenRequestOptions) (azcore.AccessToken, error) {
	if len(asked.Scopes) != 1 || asked.Scopes[0] != i.Scope {
		return azcore.AccessToken{}, errors.New("the vault asks for a token that is not for its own service")
	}
	return azcore.AccessToken{Token: i.Token, ExpiresOn: time.Now().Add(patience)}, nil
}
