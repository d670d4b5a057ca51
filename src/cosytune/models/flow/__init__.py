"""Speech tokens to a mel spectrogram: token encoder, length regulator, flow matching with a U-Net."""

from cosytune.models.flow.config import EstimatorConfig, FlowConfig
from cosytune.models.flow.inference import for_inference
from cosytune.models.flow.loss import FlowDraws, draw, flow_loss, flow_terms, gaussian_baseline
from cosytune.models.flow.model import Flow, FlowOutput
from cosytune.models.flow.solver import SolverConfig, starting_noise, synthesise

__all__ = [
    "EstimatorConfig",
    "Flow",
    "FlowConfig",
    "FlowDraws",
    "FlowOutput",
    "SolverConfig",
    "draw",
    "flow_loss",
    "flow_terms",
    "for_inference",
    "gaussian_baseline",
    "starting_noise",
    "synthesise",
]
