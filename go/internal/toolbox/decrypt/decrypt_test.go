package decrypt

import (
	"strings"
	"testing"
)

func TestImportQuotesNothing(t *testing.T) {
	for _, name := range []string{"a.agekey", "a.asc", "sops.aws-kms", "sops.azure-kv", "sops.gcp-kms"} {
		_, err := Import(map[string][]byte{name: []byte("hidden-value")})
		if err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Import(map[string][]byte{"note.txt": []byte("anything")}); err != nil {
		t.Error(err)
	}
}

func TestFormats(t *testing.T) {
	for name, format := range map[string]Format{
		"a.yaml": YAML, "a.yml": YAML, "a.json": JSON, "a.env": Dotenv, "a.ini": INI, "a": Binary,
		".dockerconfigjson": JSON, "b.dockerconfigjson": JSON,
	} {
		if found := FormatOf(name); found != format {
			t.Errorf("%s: %s", name, found)
		}
	}
	if _, encrypted := Detect([]byte("mac: none")); encrypted {
		t.Error("plain text counts as encrypted")
	}
}

func TestMaskTakesTheLongestFirst(t *testing.T) {
	decryptor := New(t.Context(), &Keys{})
	decryptor.remember("secret\nsecret-and-more")
	decryptor.remember("ab")
	if masked := decryptor.Mask("secret-and-more, secret, ab, c2VjcmV0CnNlY3JldC1hbmQtbW9yZQ=="); masked != "***, ***, ab, ***" {
		t.Error(masked)
	}
	var none *Decryptor
	if none.Mask("secret") != "secret" {
		t.Error("no decryptor masks")
	}
}

func TestMalformedTextIsAnError(t *testing.T) {
	for _, format := range []Format{Binary, Dotenv, INI, JSON, YAML} {
		for _, text := range []string{"", "\x00", "{", `{"sops": {"mac": "ENC["}}`, "sops: {mac: ENC[}", "[sops]"} {
			if _, err := New(t.Context(), &Keys{}).Text([]byte(text), format, format); err == nil {
				t.Errorf("%s %q is decrypted", format, text)
			}
		}
	}
}
