"""Speech tokens to a mel spectrogram: token encoder, length regulator, flow matching with a U-Net."""

from cosytune.models.flow.config import EstimatorConfig, FlowConfig
from cosytune.models.flow.loss import FlowDraws, draw, flow_loss, flow_terms, gaussian_baseline
from cosytune.models.flow.model import Flow, FlowOutput
from cosytune.models.flow.solver import starting_noise, synthesise

__all__ = [
    "EstimatorConfig",
    "Flow",
    "FlowConfig",
    "FlowDraws",
    "FlowOutput",
    "draw",
    "flow_loss",
    "flow_terms",
    "gaussian_baseline",
    "starting_noise",
    "synthesise",
]
