// Package signatures verifies signatures of artifacts with the libraries of
// those who define the formats. Nothing here asks any server: what a signature
// and its trust do not hold is not known.
package signatures

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"

	"headrace.dev/headrace/go/internal/toolbox/fail"
)

// signPredicate is the type of statement that says no more than "signed";
// others, such as scans and bills of material, are no approval.
const signPredicate = "https://sigstore.dev/cosign/sign/v1"

// Identity holds expressions for who may have signed.
type Identity struct {
	Issuer  string `json:"issuer"`
	Subject string `json:"subject"`
}

// Bundle is a signature with its evidence. With Payload the signature is over
// these bytes, else it is over a statement about the artifact.
type Bundle struct {
	JSON    string `json:"json"`
	Payload []byte `json:"payload"`
}

// KeylessRequest asks whether the artifact is signed by one of the identities,
// by anyone who is known when there are none.
type KeylessRequest struct {
	TrustedRoot string     `json:"trusted_root"`
	Digest      string     `json:"digest"`
	Identities  []Identity `json:"identities"`
	Bundles     []Bundle   `json:"bundles"`
}

// KeylessResult says of each bundle what is wrong with it. Signer is that of
// the first with which nothing is.
type KeylessResult struct {
	Verified bool     `json:"verified"`
	Signer   string   `json:"signer"`
	Errors   []string `json:"errors"`
}

// VerifyKeyless looks at the bundles one by one until one is good.
func VerifyKeyless(request KeylessRequest) (KeylessResult, error) {
	trusted, err := root.NewTrustedRootFromJSON([]byte(request.TrustedRoot))
	if err != nil {
		return KeylessResult{}, fail.New(fail.InvalidArgument, "trusted root cannot be read: %v", err)
	}
	verifier, err := verifierFor(trusted)
	if err != nil {
		return KeylessResult{}, fail.New(fail.InvalidArgument, "trusted root is of no use: %v", err)
	}
	policies, err := policiesFor(request.Identities)
	if err != nil {
		return KeylessResult{}, fail.New(fail.InvalidArgument, "%v", err)
	}
	result := KeylessResult{Errors: []string{}}
	for _, each := range request.Bundles {
		signer, err := verifyBundle(verifier, each, request.Digest, policies)
		if err == nil {
			result.Verified, result.Signer = true, signer
			break
		}
		result.Errors = append(result.Errors, err.Error())
	}
	return result, nil
}

// verifierFor asks for all evidence that the trusted root can judge: an
// instance without a log of certificates has no proofs of them.
func verifierFor(trusted *root.TrustedRoot) (*verify.Verifier, error) {
	options := []verify.VerifierOption{verify.WithObserverTimestamps(1)}
	if len(trusted.RekorLogs()) > 0 {
		options = append(options, verify.WithTransparencyLog(1))
	}
	if len(trusted.CTLogs()) > 0 {
		options = append(options, verify.WithSignedCertificateTimestamps(1))
	}
	return verify.NewVerifier(trusted, options...)
}

func policiesFor(identities []Identity) ([]verify.PolicyOption, error) {
	if len(identities) == 0 {
		return []verify.PolicyOption{verify.WithoutIdentitiesUnsafe()}, nil
	}
	var policies []verify.PolicyOption
	for _, identity := range identities {
		wanted, err := verify.NewShortCertificateIdentity("", anyIfEmpty(identity.Issuer), "", anyIfEmpty(identity.Subject))
		if err != nil {
			return nil, fmt.Errorf("identity of issuer '%s' and subject '%s' is not valid: %w",
				identity.Issuer, identity.Subject, err)
		}
		policies = append(policies, verify.WithCertificateIdentity(wanted))
	}
	return policies, nil
}

func anyIfEmpty(expression string) string {
	if expression == "" {
		return ".*"
	}
	return expression
}

func verifyBundle(
	verifier *verify.Verifier, given Bundle, artifact string, policies []verify.PolicyOption,
) (string, error) {
	var signed bundle.Bundle
	if err := json.Unmarshal([]byte(given.JSON), &signed); err != nil {
		return "", fmt.Errorf("bundle cannot be read: %w", err)
	}
	subject, err := subjectOf(given, artifact)
	if err != nil {
		return "", err
	}
	result, err := verifier.Verify(&signed, verify.NewPolicy(subject, policies...))
	if err != nil {
		return "", err
	}
	if result.Signature == nil || result.Signature.Certificate == nil {
		return "", errors.New("bundle holds no certificate")
	}
	if given.Payload == nil && (result.Statement == nil || result.Statement.GetPredicateType() != signPredicate) {
		return "", errors.New("bundle is a statement about the artifact, not its signature")
	}
	return result.Signature.Certificate.SubjectAlternativeName, nil
}

func subjectOf(given Bundle, artifact string) (verify.ArtifactPolicyOption, error) {
	if given.Payload != nil {
		return verify.WithArtifact(bytes.NewReader(given.Payload)), nil
	}
	algorithm, text, _ := strings.Cut(artifact, ":")
	digest, err := hex.DecodeString(text)
	if err != nil || algorithm != "sha256" {
		return nil, fmt.Errorf("digest '%s' cannot be verified", artifact)
	}
	return verify.WithArtifactDigest(algorithm, digest), nil
}
