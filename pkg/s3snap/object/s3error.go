package object

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	smithy "github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Codes that decide what an answer means where its status does not.
var (
	// deniedCodes will not go away by trying again.
	deniedCodes = []string{
		"AccessDenied", "AccountProblem", "AllAccessDisabled", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException",
		"InvalidAccessKeyId", "InvalidBucketName", "InvalidRegion", "InvalidSecurity", "InvalidStorageClass", "InvalidToken",
		"KMS.DisabledException", "KMS.NotFoundException", "NoSuchBucket", "NotSignedUp", "PermanentRedirect", "SignatureDoesNotMatch",
	}
	// passingCodes come with a status that says otherwise. RequestTimeTooSkewed is that of a clock that was set: the next
	// request is signed by the server's time, which the answer tells.
	passingCodes = []string{
		"BadDigest", "ExpiredToken", "IncompleteBody", "InternalError", "OperationAborted", "RequestTimeTooSkewed", "RequestTimeout",
		"RequestTimeoutException", "ServiceUnavailable", "SlowDown", "TemporaryRedirect", "Throttling", "ThrottlingException",
		"TokenRefreshRequired", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch",
	}
)

// maxErrorText is how much of a server's message goes into an error.
const maxErrorText = 300

// fail turns an error of a request into one of the package. ctx is the caller's context. An error that it caused is its
// error.
func (s *s3Store) fail(ctx context.Context, op Op, key string, cond Condition, err error) error {
	what := "object " + key
	if op == OpList {
		what = "objects " + s.prefix + key
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s %s: %w", op, what, ctx.Err())
	}
	return fmt.Errorf("%s %s: %w", op, what, s.classify(op, cond, err))
}

// classify says what an answer, or its absence, means.
func (s *s3Store) classify(op Op, cond Condition, err error) error {
	a := answerOf(err)
	text := s.scrub(a.text())
	conditional := cond != Condition{}
	switch {
	case a.status == 0 || a.status < 300:
		return fmt.Errorf("%w: %s", ErrUnavailable, s.scrub(reasonOf(err)))
	case a.status == http.StatusPreconditionFailed:
		return fmt.Errorf("%w: %s", ErrPrecondition, text)
	case a.status == http.StatusConflict && a.code == "ConditionalRequestConflict":
		return fmt.Errorf("%w: %w: %s", ErrUnavailable, ErrConflict, text)
	case op == OpPut && cond.IfVersion != "" && a.status == http.StatusNotFound && a.code == "NoSuchKey":
		return fmt.Errorf("%w: %s", ErrPrecondition, text)
	case op == OpPut && conditional && a.status == http.StatusNotImplemented:
		return fmt.Errorf("%w: %s", ErrUnconditional, text)
	case a.status == http.StatusNotFound && a.code == "NoSuchKey":
		return fmt.Errorf("%w: %s", ErrNotFound, text)
	case slices.Contains(deniedCodes, a.code):
		return fmt.Errorf("%w: %s", ErrDenied, text)
	case slices.Contains(passingCodes, a.code):
		return fmt.Errorf("%w: %s", ErrUnavailable, text)
	}
	return byStatus(a.status, text)
}

// byStatus is the meaning of an answer whose code says nothing more. A 404 that does not name the key is no proof that
// there is no object: a proxy may have sent it.
func byStatus(status int, text string) error {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusMovedPermanently, http.StatusPermanentRedirect:
		return fmt.Errorf("%w: %s", ErrDenied, text)
	case http.StatusNotFound, http.StatusRequestTimeout, http.StatusConflict, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusTemporaryRedirect:
		return fmt.Errorf("%w: %s", ErrUnavailable, text)
	}
	if status >= 500 {
		return fmt.Errorf("%w: %s", ErrUnavailable, text)
	}
	return fmt.Errorf("object store answered %s", text)
}

// answer is what a server said when it refused.
type answer struct {
	status        int // 0 if it said nothing
	code, message string
}

func answerOf(err error) answer {
	var a answer
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) {
		a.status = response.HTTPStatusCode()
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		a.code, a.message = api.ErrorCode(), api.ErrorMessage()
	}
	return a
}

// text is the answer for people, on one line.
func (a answer) text() string {
	if a.code == "" && a.message == "" {
		return fmt.Sprintf("status %d", a.status)
	}
	return fmt.Sprintf("status %d, %s: %s", a.status, a.code, a.message)
}

// reasonOf says why there was no answer: what the network said, without the SDK's account of its attempts.
func reasonOf(err error) string {
	var sent *url.Error
	if errors.As(err, &sent) {
		return sent.Err.Error()
	}
	return err.Error()
}

// scrub takes credentials and unprintable characters out of a text that others wrote, and bounds it.
func (s *s3Store) scrub(text string) string {
	for _, secret := range []string{s.settings.SecretKey, s.settings.SessionToken, s.settings.AccessKey} {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "***")
		}
	}
	text = strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > maxErrorText {
		text = strings.ToValidUTF8(text[:maxErrorText], "") + "..."
	}
	return text
}
