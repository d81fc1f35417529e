"""What the errors of charts mean for a HelmChart: which condition shows them, and whether trying again may help."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from headrace.controllers.sources.secrets import AUTHENTICATION_FAILED, FETCH_FAILED
from headrace.model.errors import Retry, Stalled, StepError
from headrace.model.outcome import Condition
from headrace.source.helm.errors import ChartError, Reason

BUILD_FAILED, VERIFIED = "BuildFailed", "SourceVerified"
VERIFICATION_ERROR = "VerificationError"
_UNKNOWN = "Unknown"
_OUTSIDE_OF_THE_BUILD = (AUTHENTICATION_FAILED, "URLInvalid", "FeatureGateDisabled", "InsecureRegistry")


@contextlib.contextmanager
def told_by_chart(revision: str) -> Iterator[None]:
    """Errors as the conditions of a HelmChart show them; `revision` is that of the source that was looked at."""
    try:
        yield
    except ChartError as error:
        raise observed(step_error(error), revision) from error
    except StepError as error:
        raise observed(_outside(error), revision) from error.__cause__


def step_error(error: ChartError) -> StepError:
    """The failure that a chart's error is (sources.md 2.4)."""
    if error.denied:
        message = f"failed to authenticate with the Helm repository: {error}"
        return _outside(Retry(AUTHENTICATION_FAILED, message, condition=FETCH_FAILED))
    reason, message = error.reason, str(error)
    condition = BUILD_FAILED if reason.is_of_the_build else FETCH_FAILED
    kind = Stalled if reason.needs_a_person else Retry
    made: StepError = kind(reason.word, message, condition=condition)
    if reason is Reason.VERIFICATION:
        made.conditions = (
            Condition(BUILD_FAILED, "True", reason.word, message),
            Condition(VERIFIED, "False", VERIFICATION_ERROR, message),
        )
    if condition == FETCH_FAILED:
        made.remove = (BUILD_FAILED,)
    return made


def _outside(error: StepError) -> StepError:
    """One that is no error of the build: its event says what it is, its condition does not (SRC-HCH-13)."""
    if error.condition == FETCH_FAILED and error.reason in _OUTSIDE_OF_THE_BUILD and not error.conditions:
        error.conditions = (Condition(FETCH_FAILED, "True", _UNKNOWN, f"unknown build error: {error.message}"),)
        error.remove = (BUILD_FAILED,)
    return error


def observed(error: StepError, revision: str) -> StepError:
    """Which revision of the source was looked at is told of failures, too."""
    if revision:
        error.status = {**error.status, "observedSourceArtifactRevision": revision}
    return error
