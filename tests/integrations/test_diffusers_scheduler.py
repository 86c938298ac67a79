"""Noise levels of diffusers' schedulers and ours are the same, whatever the scheduler writes them as."""

import diffusers
import pytest

from sagd_cli.integrations.diffusers_scheduler import SCHEDULERS, read_process


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize(("beta_schedule", "ours"), [("linear", "linear"), ("squaredcos_cap_v2", "cosine")])
def test_a_schedulers_own_configuration_is_read(name, beta_schedule, ours):
    scheduler = getattr(diffusers, name)(beta_schedule=beta_schedule)
    found = read_process({**scheduler.config, "_class_name": name}, "it")
    # A key that is missing has the same default there and here.
    bare = read_process({"_class_name": name, "beta_schedule": beta_schedule}, "it")
    assert (bare.schedule, bare.prediction) == (found.schedule, found.prediction)
    assert (found.schedule, found.prediction, found.sampling["sampler"]) == (ours, "eps", SCHEDULERS[name])


@pytest.mark.parametrize(("beta_schedule", "ours"), [("linear", "linear"), ("squaredcos_cap_v2", "cosine")])
def test_betas_that_are_written_out_are_recognised(beta_schedule, ours):
    betas = diffusers.DDPMScheduler(beta_schedule=beta_schedule).betas.tolist()
    told = {"_class_name": "DDIMScheduler", "trained_betas": betas, "prediction_type": "v_prediction"}
    found = read_process(told, "it")
    assert (found.schedule, found.prediction) == (ours, "v")


def test_where_a_run_draws_otherwise_it_is_noted():
    told = {"_class_name": "DDPMScheduler", "clip_sample": False, "variance_type": "learned_range"}
    notes = read_process(told, "it").notes
    assert len(notes) == 2 and "clip" in notes[0] and "variances" in notes[1]
    assert read_process({"_class_name": "DDPMScheduler"}, "it").notes == ()
