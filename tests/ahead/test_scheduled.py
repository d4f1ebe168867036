"""Reading a scheduled program: what a small one, written by hand, must cost."""

import pytest

from lpdiff_jax.ahead import scheduled

# 8 images of 4 x 6 pixels and 48 channels, a 3x3 convolution to 24 channels, in a loop of 5 turns.
PROGRAM = """\
HloModule jit_f, is_scheduled=true

%fused (p.0: bf16[8,4,6,48], p.1: f32[3,3,48,24], p.2: f32[2,16]) -> bf16[8,4,6,24] {
  %p.2 = f32[2,16]{1,0:T(8,128)} parameter(2)
  %slice.1 = f32[1,16]{1,0:T(8,128)} slice(%p.2), slice={[0:1], [0:16]}
  %p.0 = bf16[8,4,6,48]{3,0,2,1:T(8,128)(2,1)S(1)} parameter(0)
  %p.1 = f32[3,3,48,24]{3,2,1,0:T(8,128)} parameter(1)
  ROOT %conv = bf16[8,4,6,24]{3,0,2,1:T(8,128)(2,1)} convolution(%p.0, %p.1), window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f
}

%body (arg: (s32[], f32[16])) -> (s32[], f32[16]) {
  %arg = (s32[]{:T(128)}, f32[16]{0:T(128)}) parameter(0)
  %n = s32[]{:T(128)} get-tuple-element(%arg), index=0
  %x = f32[16]{0:T(128)} get-tuple-element(%arg), index=1
  %double = f32[16]{0:T(128)} add(%x, %x), metadata={op_name="jit(f)/while/add"}, backend_config={"window_config":{"estimated_cycles":"100"}}
  ROOT %pair = (s32[]{:T(128)}, f32[16]{0:T(128)}) tuple(%n, %double)
}

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[]{:T(128)} parameter(0)
  %b = f32[]{:T(128)} parameter(1)
  ROOT %add = f32[]{:T(128)} add(%a, %b)
}

ENTRY %main (x: bf16[8,4,6,48], k: f32[3,3,48,24], w: f32[2,16]) -> f32[3,3,48,24] {
  %x = bf16[8,4,6,48]{3,0,2,1:T(8,128)(2,1)} parameter(0)
  %k = f32[3,3,48,24]{3,2,1,0:T(8,128)} parameter(1)
  %w = f32[2,16]{1,0:T(8,128)} parameter(2)
  %copy-start.1 = (bf16[8,4,6,48]{3,0,2,1:T(8,128)(2,1)S(1)}, bf16[8,4,6,48]{3,0,2,1:T(8,128)(2,1)}, u32[]{:S(2)}) copy-start(%x)
  %copy-done.1 = bf16[8,4,6,48]{3,0,2,1:T(8,128)(2,1)S(1)} copy-done(%copy-start.1)
  %fusion.1 = bf16[8,4,6,24]{3,0,2,1:T(8,128)(2,1)} fusion(%copy-done.1, %k, %w), kind=kOutput, calls=%fused, metadata={op_name="jit(f)/conv_general_dilated"}, backend_config={"window_config":{"estimated_cycles":"2000"}}
  %start = (s32[]{:T(128)}, f32[16]{0:T(128)}) tuple(%c, %v)
  %while = (s32[]{:T(128)}, f32[16]{0:T(128)}) while(%start), condition=%cond, body=%body, backend_config={"known_trip_count":{"n":"5"}}
  ROOT %all-reduce = f32[3,3,48,24]{3,2,1,0:T(8,128)} all-reduce(%k), channel_id=1, to_apply=%sum
}
"""  # noqa: E501
# What arrays take with their tiles filled up, in bytes.
X = 4 * 6 * 8 * 128 * 2
Y = X
KERNEL = 3 * 3 * 48 * 128 * 4
VECTOR = 128 * 4


@pytest.fixture
def parts():
    return {part.instruction.name: part for part in scheduled.parts(PROGRAM, lanes=128)}


def test_names_and_what_is_only_waited_for_cost_nothing(parts):
    assert set(parts) == {"copy-start.1", "fusion.1", "double", "all-reduce"}


def test_a_copy_moves_what_it_copies_once(parts):
    assert (parts["copy-start.1"].hbm, parts["copy-start.1"].vmem) == (X, X)


def test_a_fusion_moves_its_operands_and_of_what_it_slices_the_slice(parts):
    assert parts["fusion.1"].hbm == Y + KERNEL + 8 * 128 * 4
    assert parts["fusion.1"].vmem == X


def test_a_convolution_counts_what_meets_pixels_and_fills_the_matrix_unit(parts):
    """Padding is no arithmetic; two taps of 48 channels share 128 rows, 24 columns take 128."""
    pairs = (3 * 4 - 2) * (3 * 6 - 2)
    assert parts["fusion.1"].flops == 2 * 8 * 48 * 24 * pairs
    passes = 5  # of 9 taps
    filled = 2 * 8 * pairs / 9 * passes * 128 * 128
    assert parts["fusion.1"].padded_flops == pytest.approx(filled)


def test_a_loop_is_counted_as_often_as_it_turns(parts):
    part = parts["double"]
    assert (part.times, part.hbm, part.instruction.cycles) == (5, 3 * VECTOR, 100)
    assert part.instruction.source == "jit(f)/while/add"


def test_an_exchange_is_the_size_of_its_numbers(parts):
    assert parts["all-reduce"].exchanged == 3 * 3 * 48 * 24 * 4
    assert parts["fusion.1"].exchanged == 0


@pytest.mark.parametrize(
    ("text", "bytes_", "padded", "in_vmem"),
    [
        ("f32[48]{0:T(128)}", 192, 512, False),
        ("bf16[32,24,48,96]{3,0,2,1:T(8,128)(2,1)S(1)}", 7077888, 9437184, True),
        ("pred[32,3]{0,1:T(4,128)(4,1)}", 96, 512, False),
        ("f32[]{:T(128)}", 4, 4, False),
        ("f32[2,3]", 24, 24, False),
    ],
)
def test_an_array_takes_its_tiles(text, bytes_, padded, in_vmem):
    (array,) = scheduled.arrays(text)
    assert (array.bytes, array.padded_bytes, array.in_vmem) == (bytes_, padded, in_vmem)


def test_a_transposed_convolution_meets_every_other_pixel():
    rest = "), window={size=3x3 pad=1_2x1_2 lhs_dilate=2x2}, dim_labels=b01f_01io->b01f"
    # Results 0 .. 7 of 4 pixels: taps at even places only, the last of which lies outside.
    assert scheduled._pairs(rest, 0, 4, 3, 8) == 11
