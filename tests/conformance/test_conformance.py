"""All checks pass for this package, and each fails for the faults that it is there to catch."""

from pathlib import Path

import pytest

from conformance.__main__ import main
from conformance.checks import CHECKS, NOT_SUPPORTED, run_checks
from conformance.faults import FAULTS
from conformance.ours import TorchRLImplementation
from conformance.plain import PlainImplementation

PAGE = Path(__file__).parent.parent.parent / "docs" / "conformance.md"


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_this_package_conforms(check):
    check(TorchRLImplementation)


def test_plain_implementation_conforms_without_the_choice_while_acting():
    results = run_checks(PlainImplementation)
    acting = ["acting_critics", "greedy_choice", "soft_choice", "epsilon_choice"]
    assert results == {name: NOT_SUPPORTED if name in acting else "" for name in CHECKS}


@pytest.mark.filterwarnings("ignore:Found an eps value")  # of ExchangedRates
@pytest.mark.parametrize(
    ("variant", "check"), FAULTS, ids=[f"{check}-{variant.__name__}" for variant, check in FAULTS]
)
def test_fault_fails_exactly_its_check(variant, check):
    results = run_checks(variant)
    failed = {name: message for name, message in results.items() if message}
    assert {*failed} == {check}, failed
    assert "\n" not in failed[check]


def test_every_check_catches_a_fault():
    assert {check for _, check in FAULTS} == {*CHECKS}


def test_actor_with_the_weights_of_the_imitation_policy_is_named():
    class ActorFromImitation(TorchRLImplementation):
        def __init__(self, settings):
            super().__init__(settings)
            pairs = zip(self.actor.parameters(), self.imitation.parameters(), strict=True)
            for actor, imitation in pairs:
                actor.data.copy_(imitation)

    with pytest.raises(AssertionError, match="initialise it independently"):
        CHECKS["greedy_choice"](ActorFromImitation)


def test_acting_by_the_target_critics_conforms():
    class ActsByTargets(TorchRLImplementation):
        def act(self, state):
            with self._networks(True):
                return super().act(state)

    CHECKS["acting_critics"](ActsByTargets)


def test_command_prints_one_line_a_check_and_counts_failures(capsys):
    assert main(["conformance.ours:TorchRLImplementation"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [[name, "passed"] for name in CHECKS]
    assert main(["conformance.faults:EqualMembers"]) == 1
    assert main(["conformance.ours"]) == 2


def test_every_check_is_on_the_page():
    page = PAGE.read_text()
    assert not [name for name in CHECKS if f"| `{name}` |" not in page]
