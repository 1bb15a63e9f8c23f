"""A VGGT that runs in milliseconds: width 32, four block pairs, a two-block encoder, no tracker."""

from vla.models.vggt import VGGTSpec

TINY_SPEC = VGGTSpec(
    img_size=56,
    embed_dim=32,
    depth=4,
    num_heads=2,
    dino_depth=2,
    dino_num_heads=2,
    enable_track=False,
    camera_trunk_depth=2,
    camera_num_heads=4,
    dpt_features=16,
    dpt_out_channels=(8, 12, 16, 16),
    dpt_layers=(0, 1, 2, 3),
)
