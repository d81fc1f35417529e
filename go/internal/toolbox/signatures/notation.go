package signatures

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/notaryproject/notation-core-go/revocation"
	"github.com/notaryproject/notation-core-go/revocation/result"
	"github.com/notaryproject/notation-go"
	"github.com/notaryproject/notation-go/verifier"
	"github.com/notaryproject/notation-go/verifier/trustpolicy"
	"github.com/notaryproject/notation-go/verifier/truststore"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"headrace.dev/headrace/go/internal/toolbox/fail"
)

// Envelope is one signature as the registry holds it.
type Envelope struct {
	MediaType string `json:"media_type"`
	Content   []byte `json:"content"`
}

// NotationRequest asks whether an artifact is signed as a trust policy wants.
// Reference is `host/repository@digest`.
type NotationRequest struct {
	Policy       string     `json:"policy"`
	Certificates []string   `json:"certificates"`
	Reference    string     `json:"reference"`
	MediaType    string     `json:"media_type"`
	Digest       string     `json:"digest"`
	Size         int64      `json:"size"`
	Signatures   []Envelope `json:"signatures"`
}

// NotationResult is one of "verified", "ignored" (the policy asks for nothing,
// or only for a note that the signer is not known) and "failed".
type NotationResult struct {
	Result string   `json:"result"`
	Errors []string `json:"errors"`
}

// VerifyNotation looks at the signatures one by one until one is good.
func VerifyNotation(ctx context.Context, request NotationRequest) (NotationResult, error) {
	policy, err := readPolicy(request.Policy)
	if err != nil {
		return NotationResult{}, fail.New(fail.InvalidArgument, "trustpolicy.json is not valid: %v", err)
	}
	trusted, err := readCertificates(request.Certificates)
	if err != nil {
		return NotationResult{}, fail.New(fail.InvalidArgument, "%v", err)
	}
	options := verifier.VerifierOptions{
		RevocationCodeSigningValidator:  noServers{},
		RevocationTimestampingValidator: noServers{},
	}
	checker, err := verifier.NewWithOptions(policy, trusted, nil, options)
	if err != nil {
		return NotationResult{}, fail.New(fail.InvalidArgument, "trust policy cannot be used: %v", err)
	}
	if skips(policy, request.Reference) {
		return NotationResult{Result: "ignored", Errors: []string{}}, nil
	}
	return verifyEnvelopes(ctx, checker, request), nil
}

func verifyEnvelopes(ctx context.Context, checker notation.Verifier, request NotationRequest) NotationResult {
	artifact := ocispec.Descriptor{
		MediaType: request.MediaType, Digest: digest.Digest(request.Digest), Size: request.Size,
	}
	answer := NotationResult{Result: "failed", Errors: []string{}}
	for _, each := range request.Signatures {
		outcome, err := checker.Verify(ctx, artifact, each.Content, notation.VerifierVerifyOptions{
			ArtifactReference: request.Reference, SignatureMediaType: each.MediaType,
		})
		if err != nil {
			answer.Errors = append(answer.Errors, err.Error())
			continue
		}
		answer.Result = "verified"
		for _, check := range outcome.VerificationResults {
			if check.Error != nil && check.Type == trustpolicy.TypeAuthenticity {
				answer.Result = "ignored"
			}
		}
		return answer
	}
	return answer
}

// readPolicy drops trust stores and identities of statements that skip: the
// library refuses them, users leave them in.
func readPolicy(text string) (*trustpolicy.Document, error) {
	var policy trustpolicy.Document
	if err := json.Unmarshal([]byte(text), &policy); err != nil {
		return nil, err
	}
	for i := range policy.TrustPolicies {
		if policy.TrustPolicies[i].SignatureVerification.VerificationLevel == trustpolicy.LevelSkip.Name {
			policy.TrustPolicies[i].TrustStores = []string{}
			policy.TrustPolicies[i].TrustedIdentities = []string{}
		}
	}
	return &policy, policy.Validate()
}

func skips(policy *trustpolicy.Document, reference string) bool {
	statement, err := policy.GetApplicableTrustPolicy(reference)
	if err != nil {
		return false
	}
	level, err := statement.SignatureVerification.GetVerificationLevel()
	return err == nil && level.Name == trustpolicy.LevelSkip.Name
}

// store holds the same certificates under every name, as upstream does: a
// Secret has no folders.
type store []*x509.Certificate

func (s store) GetCertificates(context.Context, truststore.Type, string) ([]*x509.Certificate, error) {
	return s, nil
}

func readCertificates(texts []string) (store, error) {
	var all store
	for _, text := range texts {
		rest, before := []byte(text), len(all)
		for {
			var block *pem.Block
			block, rest = pem.Decode(rest)
			if block == nil {
				break
			}
			found, err := x509.ParseCertificates(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("a certificate cannot be read: %w", err)
			}
			all = append(all, found...)
		}
		if len(all) == before {
			return nil, errors.New("a certificate cannot be read: no PEM data is found")
		}
	}
	return all, nil
}

// noServers answers for the servers that certificates name: nobody is asked,
// so a certificate that could be revoked is not known to be good.
type noServers struct{}

func (noServers) ValidateContext(
	_ context.Context, options revocation.ValidateContextOptions,
) ([]*result.CertRevocationResult, error) {
	results := make([]*result.CertRevocationResult, len(options.CertChain))
	for i, certificate := range options.CertChain {
		verdict, why := result.ResultNonRevokable, error(nil)
		if len(certificate.OCSPServer)+len(certificate.CRLDistributionPoints) > 0 {
			verdict, why = result.ResultUnknown, errors.New("servers of certificates are not asked for revocations")
		}
		results[i] = &result.CertRevocationResult{
			Result:        verdict,
			ServerResults: []*result.ServerResult{result.NewServerResult(verdict, "", why)},
		}
	}
	return results, nil
}
