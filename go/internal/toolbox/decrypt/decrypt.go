package decrypt

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/aes"
	"github.com/getsops/sops/v3/config"
	"github.com/getsops/sops/v3/keyservice"
	"github.com/getsops/sops/v3/logging"
	"github.com/getsops/sops/v3/stores/dotenv"
	"github.com/getsops/sops/v3/stores/ini"
	"github.com/getsops/sops/v3/stores/json"
	"github.com/getsops/sops/v3/stores/yaml"

	"headrace.dev/headrace/go/internal/toolbox/fail"
)

// Format is how an encrypted text is written.
type Format string

// The formats of SOPS. Binary is any text, wrapped in JSON while it is encrypted.
const (
	Binary Format = "binary"
	Dotenv Format = "dotenv"
	INI    Format = "INI"
	JSON   Format = "JSON"
	YAML   Format = "YAML"
)

// marks stand in every encrypted text of a format. In this order they tell the
// format of a text: JSON and Binary have the same.
var marks = []struct {
	format Format
	mark   []byte
}{
	{Binary, []byte(`"mac": "ENC[`)},
	{Dotenv, []byte("sops_mac=ENC[")},
	{INI, []byte("[sops]")},
	{YAML, []byte("mac: ENC[")},
	{JSON, []byte(`"mac": "ENC[`)},
}

// FormatOf tells the format by a file's or an entry's name.
func FormatOf(name string) Format {
	if strings.HasSuffix(name, ".dockerconfigjson") {
		return JSON
	}
	switch path.Ext(name) {
	case ".yaml", ".yml":
		return YAML
	case ".json":
		return JSON
	case ".env":
		return Dotenv
	case ".ini":
		return INI
	}
	return Binary
}

// IsEncrypted tells whether the text carries the mark of the format.
func IsEncrypted(text []byte, format Format) bool {
	for _, known := range marks {
		if known.format == format {
			return bytes.Contains(text, known.mark)
		}
	}
	return false
}

// Detect tells the format of an encrypted text; false for any other text.
func Detect(text []byte) (Format, bool) {
	for _, known := range marks {
		if bytes.Contains(text, known.mark) {
			return known.format, true
		}
	}
	return "", false
}

func init() {
	// They would tell paths and key ids on standard error.
	for _, logger := range logging.Loggers {
		logger.SetOutput(io.Discard)
	}
}

// Decryptor decrypts and remembers what has come out, so that no message repeats it.
type Decryptor struct {
	services []keyservice.KeyServiceClient
	secrets  map[string]struct{}
	wanted   []fail.Identity
}

// New makes a decryptor for the given keys. Key services are called within the context.
func New(ctx context.Context, keys *Keys) *Decryptor {
	d := &Decryptor{secrets: map[string]struct{}{}}
	d.services = []keyservice.KeyServiceClient{service{ctx, keys, d}}
	return d
}

// Wanted are the identities that key services would have had to be shown.
func (d *Decryptor) Wanted() []fail.Identity { return d.wanted }

// Text decrypts a text. The message authentication code is not looked at, as in
// Flux: kustomize has changed the resource that it was made for.
func (d *Decryptor) Text(text []byte, from, to Format) (plain []byte, err error) {
	defer func() {
		// SOPS panics at some malformed input; the cause may quote plain text.
		if recover() != nil {
			plain, err = nil, fmt.Errorf("failed to emit encrypted %s data as decrypted %s", from, to)
		}
	}()
	tree, err := store(from).LoadEncryptedFile(text)
	if err != nil {
		return nil, fmt.Errorf("failed to load encrypted %s data: %s", from, described(err))
	}
	key, err := tree.Metadata.GetDataKeyWithKeyServices(d.services, sops.DefaultDecryptionOrder)
	if err != nil {
		return nil, fmt.Errorf("cannot get sops data key: %s", described(err))
	}
	// Another key has served: whatever fails from here on, it is not for want of them.
	d.wanted = nil
	if _, err := tree.Decrypt(key, remembering{aes.NewCipher(), d}); err != nil {
		return nil, errors.New(d.Mask(fmt.Sprintf("error decrypting sops tree: %s", described(err))))
	}
	plain, err = store(to).EmitPlainFile(tree.Branches)
	if err != nil {
		return nil, errors.New(d.Mask(fmt.Sprintf("failed to emit encrypted %s data as decrypted %s: %s", from, to, described(err))))
	}
	return plain, nil
}

func described(err error) string {
	var user sops.UserError
	if !errors.As(err, &user) {
		return err.Error()
	}
	// It is drawn as a tree for a terminal, with long lines broken anywhere.
	lines := strings.Split(user.UserError(), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimLeft(line, " |")
	}
	return strings.Join(strings.Fields(strings.Join(lines, " ")), " ")
}

func store(format Format) sops.Store {
	settings := config.NewStoresConfig()
	switch format {
	case Dotenv:
		return dotenv.NewStore(&settings.Dotenv)
	case INI:
		return ini.NewStore(&settings.INI)
	case JSON:
		return json.NewStore(&settings.JSON)
	case YAML:
		return yaml.NewStore(&settings.YAML)
	}
	return json.NewBinaryStore(&settings.JSONBinary)
}

// remembering keeps what a cipher decrypts.
type remembering struct {
	sops.Cipher
	decryptor *Decryptor
}

// Decrypt opens one value.
func (r remembering) Decrypt(text string, key []byte, additional string) (any, error) {
	plain, err := r.Cipher.Decrypt(text, key, additional)
	if err == nil {
		r.decryptor.remember(fmt.Sprint(plain))
	}
	return plain, err
}

// shortest is the length below which a secret is a word that occurs by itself.
const shortest = 4

func (d *Decryptor) remember(plain string) {
	parts := append(strings.Split(plain, "\n"), plain, base64.StdEncoding.EncodeToString([]byte(plain)))
	if decoded, err := base64.StdEncoding.DecodeString(plain); err == nil {
		parts = append(parts, string(decoded))
	}
	for _, part := range parts {
		if part = strings.TrimSpace(part); len(part) >= shortest {
			d.secrets[part] = struct{}{}
		}
	}
}

// Mask takes everything that was decrypted out of a message, longest first.
func (d *Decryptor) Mask(message string) string {
	if d == nil || len(d.secrets) == 0 {
		return message
	}
	secrets := make([]string, 0, len(d.secrets))
	for secret := range d.secrets {
		if strings.Contains(message, secret) {
			secrets = append(secrets, secret)
		}
	}
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) })
	for _, secret := range secrets {
		message = strings.ReplaceAll(message, secret, "***")
	}
	return message
}
