package decrypt

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/ProtonMail/go-crypto/openpgp"
	pgparmor "github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/getsops/sops/v3/keyservice"
	"google.golang.org/grpc"
)

// maxDataKey bounds what a message may unpack to: a data key has 32 bytes, a share
// of one little more.
const maxDataKey = 1 << 16

// patience is how long a key service may take for one data key, all tries together.
const patience = 30 * time.Second

// service decrypts data keys with the given private keys, or has a key service do so.
// SOPS hands over no context, so it holds that of the call.
type service struct {
	ctx       context.Context
	keys      *Keys
	decryptor *Decryptor
}

// Encrypt is not offered.
func (s service) Encrypt(
	context.Context, *keyservice.EncryptRequest, ...grpc.CallOption,
) (*keyservice.EncryptResponse, error) {
	return nil, errors.New("only decryption is offered")
}

// Decrypt opens one data key.
func (s service) Decrypt(
	_ context.Context, request *keyservice.DecryptRequest, _ ...grpc.CallOption,
) (*keyservice.DecryptResponse, error) {
	plain, err := s.open(request.Key, request.Ciphertext)
	if err != nil {
		return nil, err
	}
	return &keyservice.DecryptResponse{Plaintext: plain}, nil
}

func (s service) open(key *keyservice.Key, message []byte) ([]byte, error) {
	switch key.KeyType.(type) {
	case *keyservice.Key_AgeKey:
		return s.openAge(message)
	case *keyservice.Key_PgpKey:
		return s.openPGP(message)
	}
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	return s.openCloud(ctx, key, message)
}

func (s service) openAge(message []byte) ([]byte, error) {
	if len(s.keys.identities) == 0 {
		return nil, errors.New("there is no age identity among the keys")
	}
	reader, err := age.Decrypt(armor.NewReader(bytes.NewReader(message)), s.keys.identities...)
	if err != nil {
		return nil, errors.New("no age identity among the keys matches the recipient")
	}
	return io.ReadAll(io.LimitReader(reader, maxDataKey))
}

func (s service) openPGP(message []byte) ([]byte, error) {
	if len(s.keys.ring) == 0 {
		return nil, errors.New("there is no OpenPGP key among the keys")
	}
	block, err := pgparmor.Decode(bytes.NewReader(message))
	if err != nil {
		return nil, errors.New("the data key is no OpenPGP message")
	}
	opened, err := openpgp.ReadMessage(block.Body, s.keys.ring, nil, nil)
	if err != nil {
		return nil, errors.New("no OpenPGP key among the keys matches, or it has a passphrase")
	}
	return io.ReadAll(io.LimitReader(opened.UnverifiedBody, maxDataKey))
}
