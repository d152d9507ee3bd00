"""What a run says of its origin."""

import subprocess

from mfrbook.store import behaviour, provenance


def test_the_commit_of_this_checkout_is_named():
    asked = subprocess.run(["git", "-C", str(provenance.PROJECT), "rev-parse", "HEAD"], capture_output=True, text=True)
    assert provenance.commit()["commit"] == (asked.stdout.strip() or None)


def test_a_run_says_which_behaviour_made_it():
    found = provenance.provenance("coverage")
    assert found["behaviour"] == behaviour.BEHAVIOUR["coverage"]
    assert found["built_on"] == {"synthetic": behaviour.BEHAVIOUR["synthetic"]}
