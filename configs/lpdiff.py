"""LP-Diff at the paper's size: 112 x 224, a 92 M denoiser, the mended recipe.

    lpdiff prepare MDLP_ROOT data/mdlp
    python train.py --config configs/lpdiff.py --workdir runs/lpdiff --config.data.root=data/mdlp

Cost: not yet trained to the end by us; one denoiser call is 137 GFLOP forward.
"""

from ml_collections import ConfigDict

from configs import common
from configs.common import get_optimisation
from lpdiff_jax.plate_text import CHARSET


def get_config() -> ConfigDict:
    """With configs/common.py the complete list of LP-Diff's fields."""
    config = common.get_config()
    config.method = "lpdiff"
    # Stages to train, in order. 'sketch' may stand between, 'joint' may follow: both networks,
    # fine-tuned together.
    config.stages = ("psi", "diffusion")

    config.model = get_model()

    # How plates are restored when the caller does not say; saved with the model. The choices are
    # explained in diffusion/samplers.py:Sampler. More steps make strokes sharper, and are
    # read no better (docs/sampling.md).
    config.sampler = ConfigDict(
        {"name": "ddim", "steps": 1, "eta": 0.0, "spacing": "uniform", "start": 1.0}
    )

    # Stage psi: the condition network alone, supervised by the ground truth.
    config.psi = get_optimisation()
    # Weight of the L1 between image gradients, beside that between pixels.
    config.psi.gradient_weight = 0.5
    # Pixels that prediction and truth may be shifted against each other, unpunished (0: none).
    config.psi.shift = 0
    # Weight of the reading head's cross-entropy.
    config.psi.reading_weight = 0.2
    # Weight of the straightener's distance from the plate's corners, where these are known.
    config.psi.place_weight = 1.0

    # Stage sketch, if `stages` names it: what draws the reading head's text, on psi's residual.
    config.sketch = get_optimisation()
    config.sketch.update(steps=20_000, learning_rate=2e-3, ema_decay=0.999)

    # Stage diffusion: the denoiser, on the residual that psi leaves.
    config.diffusion = get_diffusion_stage()
    # Stage joint, if `stages` names it: both networks, by both losses.
    config.joint = get_diffusion_stage()
    config.joint.condition = "joint"
    config.joint.learning_rate = 2e-5

    # Stages that distil, if `stages` names them: each one's student takes half its teacher's steps.
    for student_steps in (4, 2, 1):
        config[f"distill_{student_steps}"] = get_distillation_stage(student_steps)
    return config


def get_model() -> ConfigDict:
    """The mended model at the paper's size."""
    return ConfigDict(
        {
            # Height and width; every image is resized to it.
            "image_size": (112, 224),
            # Precision of the computation; parameters, norms and losses are float32.
            "dtype": "float32",
            # What the denoiser predicts: 'v', 'noise' (published) or 'x0'.
            "prediction": "v",
            # The unit of the residual; near its standard deviation.
            "residual_scale": 0.3,
            # Whether the denoiser is shown the mean of the frames beside psi (and the sketch).
            "guide_frame": False,
            # Clip 'image' (x_0 + psi) or 'residual' (published).
            "clip": "image",
            # Fields of models/condition.py:ConditionNetwork, explained there.
            "condition": {
                "features": (48, 96, 160, 160),
                "strides": (1, 2, 2, 2),
                "patch": 2,
                "frame_blocks": 1,
                "blocks": 2,
                "norm": "group",
                "norm_groups": 8,
                "heads": 8,
                "frame_batching": "batched",
                "pairing": "all",
                "residual": "input",
                "positions": "2d",
                "curvature": "corrected",
                "channel_median": "true",
                "channel_kernel": 3,
                "skips": "fused",
                "outer_skip": "mean",
                "straightener": 0,
                "detail": 0,
                "detail_blocks": 2,
            },
            # Fields of models/reading_head.py:ReadingHead, explained there (slots 0: no reading
            # head), with the characters that it reads, its confidence's temperature and slope, and
            # that from which on a plate is called readable (`lpdiff pack` fits these).
            "reader": {
                "charset": CHARSET,
                "temperature": 1.0,
                "slope": 1.0,
                "readable": 0.95,
                "slots": 8,
                "features": 128,
                "layers": 2,
                "heads": 8,
                "alignment": "slots",
            },
            # Fields of models/sketch.py:Sketch, explained there: what psi lacks of the text that
            # the reading head reads, drawn for the denoiser (layers 0: it sees psi alone, as
            # published). Stage sketch trains it.
            "sketch": {
                "layers": 0,
                "features": 128,
                "heads": 4,
                "patch": 2,
                "text": "probabilities",
            },
            # Fields of models/unet.py:UNet, explained there.
            "denoiser": {
                "features": 64,
                "multipliers": (1, 2, 4, 8, 8),
                "blocks": 2,
                "norm_groups": 32,
                "nominal_resolution": 128,
                "attention_resolutions": (16,),
                "dropout": 0.1,
                "embedding": "log_snr",
                "patch": 1,
                "remat": False,
            },
            # Arguments of diffusion/schedule.py:make_schedule.
            "schedule": {"name": "cosine", "steps": 1000, "zero_terminal_snr": True},
        }
    )


def get_diffusion_stage() -> ConfigDict:
    """A stage that trains the denoiser."""
    config = get_optimisation()
    # psi meanwhile: 'frozen', 'detached' (trained on by its own loss), 'joint' (both losses reach
    # it), or 'unsupervised' (the diffusion loss alone reaches it, as published).
    config.condition = "frozen"
    # Noise levels in a batch: 'stratified' (one per sample), or 'shared' as published.
    config.levels = "stratified"
    # Weighting of the loss over noise levels: 'none' or 'min_snr'.
    config.weighting = "none"
    # psi's own loss, where it is trained on.
    config.gradient_weight = 0.5
    config.shift = 0
    config.reading_weight = 0.2
    config.place_weight = 1.0
    return config


def get_distillation_stage(student_steps: int) -> ConfigDict:
    """How a stage that distils is trained."""
    stage = get_optimisation()
    # 'progressive' or 'consistency', see methods/lpdiff/distillation.py.
    stage.method = "progressive"
    # The student's steps, and the teacher's in each of them.
    stage.student_steps = student_steps
    stage.teacher_steps = 2
    stage.steps = 20_000
    stage.learning_rate = 5e-5
    return stage
