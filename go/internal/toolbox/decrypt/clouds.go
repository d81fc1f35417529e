package decrypt

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/getsops/sops/v3/azkv"
	"github.com/getsops/sops/v3/gcpkms"
	"github.com/getsops/sops/v3/hcvault"
	"github.com/getsops/sops/v3/keyservice"
	"github.com/getsops/sops/v3/kms"
	"github.com/hashicorp/vault/api"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
	"google.golang.org/api/option"

	"headrace.dev/headrace/go/internal/toolbox/egress"
)

// Network is how the key services of clouds and Vault are reached. The endpoints
// are the operator's, empty for those that the clouds' libraries know.
type Network struct {
	egress.Policy
	AWSEndpoint string `json:"aws_kms_endpoint"`
	GCPEndpoint string `json:"gcp_kms_endpoint"`
}

// network is nil in a process that may not call key services.
var network *Network

// OpenNetwork lets this process call key services, once, at its start. Credentials
// come with each call: whatever libraries would find on the machine is closed.
func OpenNetwork(chosen Network) error {
	if _, err := chosen.Client(); err != nil {
		return err
	}
	closed := map[string]string{
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
	}
	if chosen.AWSEndpoint != "" {
		closed["AWS_ENDPOINT_URL_KMS"] = chosen.AWSEndpoint
	}
	for name, value := range closed {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	network = &chosen
	return nil
}

// Login is how a token for one Vault server is got: the operator names the server and
// its path, the token of a ServiceAccount proves who asks.
type Login struct {
	Address string `json:"address"`
	Path    string `json:"path"`
	Role    string `json:"role"`
	JWT     string `json:"jwt"`
}

// openCloud has a key service open a data key.
func (s service) openCloud(ctx context.Context, key *keyservice.Key, message []byte) ([]byte, error) {
	lent := s.lent(key)
	if network == nil {
		return nil, errors.New("key services are not called without credentials for one")
	}
	client, err := network.Client()
	if err != nil {
		return nil, err
	}
	var plain []byte
	switch key := key.KeyType.(type) {
	case *keyservice.Key_KmsKey:
		plain, err = s.openAWS(ctx, client, key.KmsKey, message, lent)
	case *keyservice.Key_AzureKeyvaultKey:
		plain, err = s.openAzure(ctx, client, key.AzureKeyvaultKey, message, lent)
	case *keyservice.Key_GcpKmsKey:
		plain, err = s.openGCP(ctx, client, key.GcpKmsKey, message, lent)
	case *keyservice.Key_VaultKey:
		plain, err = s.openVault(ctx, client, key.VaultKey, message)
	default:
		err = errors.New("this key service is not known")
	}
	if err != nil {
		return nil, errors.New(short(err.Error()))
	}
	return plain, nil
}

// longest is where a message ends: some libraries quote the whole answer.
const longest = 500

func short(message string) string {
	message = strings.Join(strings.Fields(message), " ")
	if len(message) > longest {
		message = strings.ToValidUTF8(message[:longest], "") + "..."
	}
	return message
}

func (s service) openAWS(
	ctx context.Context, client *http.Client, key *keyservice.KmsKey, message []byte, lent *Identity,
) ([]byte, error) {
	account := s.keys.aws
	switch {
	case account == nil && lent == nil:
		return nil, missing(awsKMS, "AWS KMS")
	case account == nil:
		account = &awsAccount{ID: lent.AccessKey, Secret: lent.SecretKey, Session: lent.SessionToken}
	}
	// A profile is the engine's machine's, so the one that a file names is left out.
	master := kms.MasterKey{Arn: key.Arn, Role: key.Role, EncryptedKey: string(message)}
	if len(key.Context) > 0 {
		master.EncryptionContext = map[string]*string{}
	}
	for name, value := range key.Context {
		master.EncryptionContext[name] = &value
	}
	provider := credentials.NewStaticCredentialsProvider(account.ID, account.Secret, account.Session)
	kms.NewCredentialsProvider(provider).ApplyToMasterKey(&master)
	kms.NewHTTPClient(client).ApplyToMasterKey(&master)
	return master.DecryptContext(ctx)
}

func (s service) openAzure(
	ctx context.Context, client *http.Client, key *keyservice.AzureKeyVaultKey, message []byte, lent *Identity,
) ([]byte, error) {
	options := azcore.ClientOptions{Transport: client}
	var credential azcore.TokenCredential
	switch {
	case s.keys.azure != nil:
		var err error
		if credential, err = s.keys.azure.credential(options); err != nil {
			return nil, err
		}
	case lent != nil:
		credential = lent
	default:
		return nil, missing(azureKV, "Azure Key Vault")
	}
	master := azkv.MasterKey{VaultURL: key.VaultUrl, Name: key.Name, Version: key.Version, EncryptedKey: string(message)}
	azkv.NewTokenCredential(credential).ApplyToMasterKey(&master)
	azkv.NewClientOptions(&azkeys.ClientOptions{ClientOptions: options}).ApplyToMasterKey(&master)
	return master.DecryptContext(ctx)
}

func (a *azureAccount) credential(options azcore.ClientOptions) (azcore.TokenCredential, error) {
	// An authority of one's own is not known to the public one, which would be asked.
	private := a.AuthorityHost != ""
	if private {
		options.Cloud = cloud.Configuration{ActiveDirectoryAuthorityHost: a.AuthorityHost}
	}
	tenant, client, secret := a.Tenant, a.Client, a.Secret
	if tenant == "" {
		tenant, client, secret = a.OldTenant, a.OldClient, a.OldSecret
	}
	switch {
	case tenant != "" && secret != "":
		return azidentity.NewClientSecretCredential(tenant, client, secret,
			&azidentity.ClientSecretCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: private})
	case tenant != "" && a.Certificate != "":
		certificates, key, err := azidentity.ParseCertificates([]byte(a.Certificate), []byte(a.CertificatePassword))
		if err != nil {
			return nil, errors.New("the clientCertificate cannot be read")
		}
		return azidentity.NewClientCertificateCredential(tenant, client, certificates, key,
			&azidentity.ClientCertificateCredentialOptions{
				ClientOptions: options, DisableInstanceDiscovery: private, SendCertificateChain: a.CertificateSendChain,
			})
	}
	return nil, errors.New("a managed identity is that of the engine's machine, which tenants do not share")
}

func (s service) openGCP(
	ctx context.Context, client *http.Client, key *keyservice.GcpKmsKey, message []byte, lent *Identity,
) ([]byte, error) {
	tokens, err := s.googleTokens(ctx, client, lent)
	if err != nil {
		return nil, err
	}
	authorized := &http.Client{
		Transport: &oauth2.Transport{Source: tokens, Base: client.Transport}, Timeout: client.Timeout,
		CheckRedirect: client.CheckRedirect,
	}
	options := gcpkms.ClientOptions{option.WithHTTPClient(authorized)}
	if network.GCPEndpoint != "" {
		options = append(options, option.WithEndpoint(network.GCPEndpoint))
	}
	master := gcpkms.MasterKey{ResourceID: key.ResourceId, EncryptedKey: string(message)}
	gcpkms.UseRESTClient{}.ApplyToMasterKey(&master)
	options.ApplyToMasterKey(&master)
	return master.DecryptContext(ctx)
}

func (s service) googleTokens(ctx context.Context, client *http.Client, lent *Identity) (oauth2.TokenSource, error) {
	if s.keys.gcp == nil {
		if lent == nil {
			return nil, missing(gcpKMS, "GCP KMS")
		}
		return oauth2.StaticTokenSource(&oauth2.Token{AccessToken: lent.Token}), nil
	}
	// Other kinds of credentials name files, programs or URLs to take tokens from.
	account, err := google.JWTConfigFromJSON(s.keys.gcp, "https://www.googleapis.com/auth/cloudkms")
	if err != nil {
		return nil, fmt.Errorf("'%s' is no key of a service account", gcpKMS)
	}
	return account.TokenSource(context.WithValue(ctx, oauth2.HTTPClient, client)), nil
}

func (s service) openVault(ctx context.Context, client *http.Client, key *keyservice.VaultKey, message []byte) ([]byte, error) {
	token, err := s.vaultToken(ctx, client, key.VaultAddress)
	if err != nil {
		return nil, err
	}
	master := hcvault.MasterKey{
		VaultAddress: key.VaultAddress, EnginePath: key.EnginePath, KeyName: key.KeyName, EncryptedKey: string(message),
	}
	hcvault.Token(token).ApplyToMasterKey(&master)
	hcvault.NewHTTPClient(client).ApplyToMasterKey(&master)
	return master.DecryptContext(ctx)
}

// vaultToken is the token of the Secret, else one for which a ServiceAccount logs in,
// at servers that the operator lists only.
func (s service) vaultToken(ctx context.Context, client *http.Client, address string) (string, error) {
	if s.keys.vault != "" {
		return s.keys.vault, nil
	}
	if len(s.keys.Logins) == 0 {
		return "", missing(vaultToken, "Vault")
	}
	for _, login := range s.keys.Logins {
		if login.Address == address {
			return login.token(ctx, client)
		}
	}
	return "", fmt.Errorf("no Vault login path configured for address '%s'", address)
}

func (l Login) token(ctx context.Context, client *http.Client) (string, error) {
	config := api.DefaultConfig()
	config.Address, config.HttpClient = l.Address, client
	vault, err := api.NewClient(config)
	if err != nil {
		return "", err
	}
	secret, err := vault.Logical().WriteWithContext(ctx, l.Path, map[string]any{"role": l.Role, "jwt": l.JWT})
	if err != nil {
		return "", fmt.Errorf("failed to authenticate with Vault '%s' at login path '%s' as role '%s': %w",
			l.Address, l.Path, l.Role, err)
	}
	if secret == nil || secret.Auth == nil || secret.Auth.ClientToken == "" {
		return "", fmt.Errorf("Vault '%s' returned no token for login at '%s' as role '%s'", l.Address, l.Path, l.Role)
	}
	return secret.Auth.ClientToken, nil
}

func missing(entry, name string) error {
	return fmt.Errorf("there are no credentials for %s among the keys ('%s')", name, entry)
}
