/*
 * Standard normal numbers, as PyTorch's and NumPy's generators draw them. Called from any thread,
 * each with its own struct els_noise; nothing here is shared or allocated.
 *
 * What always holds: the numbers depend on kind, seed and the sizes of the calls so far, and on
 * nothing else. The compiler may not contract or reorder the float32 arithmetic below (the
 * build says -ffp-contract=off), since each rounding is part of the recipe.
 *
 * Torch. MT19937 (Matsumoto & Nishimura 1998). A call for 16 numbers or more draws u = 24 bits·2⁻²⁴
 * for every element, then turns blocks of 16 into normal numbers by Box–Muller, the first eight of
 * a block being the radii's uniforms and the last eight the angles'. When the count is no
 * multiple of 16, the last 16 elements are drawn afresh. A call for fewer goes one by one in
 * float64, and keeps the second number of each pair for the next such call.
 *
 * NumPy. SeedSequence (O'Neill's seed_seq_fe) spreads the seed over 256 bits, which start PCG64
 * (XSL-RR, 128-bit state); its 64-bit words give two 32-bit draws each, the low half first; a draw
 * picks layer, sign and 23 bits of a ziggurat (noise_ziggurat.h).
 */
#include "els/noise.h"

#include <math.h>
#include <string.h>

#include "core/theory/noise_ziggurat.h"
#include "els/error.h"

enum { MT_N = 624, MT_M = 397, BLOCK = 16, HALF_BLOCK = BLOCK / 2 };

/* MT19937 */

static void mt_seed(struct els_noise *g, uint32_t seed)
{
    uint32_t *w = g->torch.word;

    w[0] = seed;
    for (uint32_t i = 1; i < MT_N; i++)
        w[i] = 1812433253u * (w[i - 1] ^ (w[i - 1] >> 30)) + i;
    g->torch.next = MT_N;
}

static uint32_t mt_twist(uint32_t high, uint32_t low)
{
    uint32_t y = (high & 0x80000000u) | (low & 0x7fffffffu);

    return (y >> 1) ^ ((y & 1) ? 0x9908b0dfu : 0);
}

static void mt_refill(uint32_t *w)
{
    for (int i = 0; i < MT_N; i++)
        w[i] = w[(i + MT_M) % MT_N] ^ mt_twist(w[i], w[(i + 1) % MT_N]);
}

static uint32_t mt_next(struct els_noise *g)
{
    uint32_t y;

    if (g->torch.next >= MT_N) {
        mt_refill(g->torch.word);
        g->torch.next = 0;
    }
    y = g->torch.word[g->torch.next++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

/* Torch */

static float torch_uniform_f32(struct els_noise *g)
{
    return (float)(mt_next(g) & 0xffffff) * 0x1p-24f;
}

static double torch_uniform_f64(struct els_noise *g)
{
    uint64_t high = mt_next(g), low = mt_next(g);

    return (double)((high << 32 | low) & ((1ull << 53) - 1)) * 0x1p-53;
}

/* Box–Muller on 16 uniforms in place. */
static void torch_block(float *out)
{
    for (int j = 0; j < HALF_BLOCK; j++) {
        float radius = sqrtf(-2.0f * logf(1.0f - out[j]));
        float theta = (float)(2.0 * M_PI) * out[j + HALF_BLOCK];

        out[j] = radius * cosf(theta);
        out[j + HALF_BLOCK] = radius * sinf(theta);
    }
}

static float torch_single(struct els_noise *g)
{
    double u1, u2, radius, theta;

    if (g->torch.has_cached) {
        g->torch.has_cached = 0;
        return (float)g->torch.cached;
    }
    u1 = torch_uniform_f64(g);
    u2 = torch_uniform_f64(g);
    radius = sqrt(-2.0 * log1p(-u2));
    theta = 2.0 * M_PI * u1;
    g->torch.cached = radius * sin(theta);
    g->torch.has_cached = 1;
    return (float)(radius * cos(theta));
}

static void torch_randn(struct els_noise *g, float *out, size_t n)
{
    if (n < BLOCK) {
        for (size_t i = 0; i < n; i++)
            out[i] = torch_single(g);
        return;
    }
    for (size_t i = 0; i < n; i++)
        out[i] = torch_uniform_f32(g);
    for (size_t i = 0; i + BLOCK <= n; i += BLOCK)
        torch_block(out + i);
    if (n % BLOCK) {
        out += n - BLOCK;
        for (int i = 0; i < BLOCK; i++)
            out[i] = torch_uniform_f32(g);
        torch_block(out);
    }
}

/* PCG64 */

__extension__ typedef unsigned __int128 u128;

static u128 u128_join(uint64_t high, uint64_t low)
{
    return (u128)high << 64 | low;
}

static u128 pcg_step(u128 state, u128 inc)
{
    return state * u128_join(2549297995355413924ull, 4865540595714422341ull) + inc;
}

static uint64_t pcg_next64(struct els_noise *g)
{
    u128 state = pcg_step(u128_join(g->numpy.state_hi, g->numpy.state_lo),
                          u128_join(g->numpy.inc_hi, g->numpy.inc_lo));
    uint64_t high = (uint64_t)(state >> 64), low = (uint64_t)state, mixed = high ^ low;
    unsigned turn = (unsigned)(high >> 58);

    g->numpy.state_hi = high;
    g->numpy.state_lo = low;
    return mixed >> turn | mixed << (-turn & 63);
}

static uint32_t pcg_next32(struct els_noise *g)
{
    uint64_t both;

    if (g->numpy.has_half) {
        g->numpy.has_half = 0;
        return g->numpy.half;
    }
    both = pcg_next64(g);
    g->numpy.half = (uint32_t)(both >> 32);
    g->numpy.has_half = 1;
    return (uint32_t)both;
}

/* SeedSequence: `value` keyed by a constant that moves on with every use. */
static uint32_t seed_hash(uint32_t value, uint32_t *key, uint32_t multiplier)
{
    value ^= *key;
    *key *= multiplier;
    value *= *key;
    return value ^ value >> 16;
}

static uint32_t seed_mix(uint32_t x, uint32_t y)
{
    uint32_t z = 0xca01f9ddu * x - 0x4973f715u * y;

    return z ^ z >> 16;
}

static void seed_spread(uint64_t out[4], uint64_t seed)
{
    uint32_t pool[4] = {(uint32_t)seed, (uint32_t)(seed >> 32), 0, 0}, key = 0x43b0d7e5u;

    for (int i = 0; i < 4; i++)
        pool[i] = seed_hash(pool[i], &key, 0x931e8875u);
    for (int from = 0; from < 4; from++) {
        for (int to = 0; to < 4; to++) {
            if (from != to)
                pool[to] = seed_mix(pool[to], seed_hash(pool[from], &key, 0x931e8875u));
        }
    }
    key = 0x8b51f9ddu;
    for (int i = 0; i < 4; i++) {
        uint64_t low = seed_hash(pool[2 * i % 4], &key, 0x58f38dedu);
        uint64_t high = seed_hash(pool[(2 * i + 1) % 4], &key, 0x58f38dedu);

        out[i] = high << 32 | low;
    }
}

static void pcg_seed(struct els_noise *g, uint64_t seed)
{
    uint64_t word[4];
    u128 state, inc;

    seed_spread(word, seed);
    inc = u128_join(word[2], word[3]) << 1 | 1;
    state = pcg_step(pcg_step(0, inc) + u128_join(word[0], word[1]), inc);
    g->numpy.state_hi = (uint64_t)(state >> 64);
    g->numpy.state_lo = (uint64_t)state;
    g->numpy.inc_hi = (uint64_t)(inc >> 64);
    g->numpy.inc_lo = (uint64_t)inc;
}

/* NumPy's normal numbers */

static float numpy_uniform(struct els_noise *g)
{
    return (float)(pcg_next32(g) >> 8) * 0x1p-24f;
}

/* Beyond the base strip: Marsaglia's exponential rejection. */
static float numpy_tail(struct els_noise *g)
{
    const float r = (float)ZIGGURAT_R, inverse = (float)(1.0 / ZIGGURAT_R);
    float x, y;

    do {
        x = -inverse * log1pf(-numpy_uniform(g));
        y = -log1pf(-numpy_uniform(g));
    } while (y + y <= x * x);
    return r + x;
}

static float numpy_single(struct els_noise *g)
{
    for (;;) {
        uint32_t draw = pcg_next32(g), layer = draw & 0xff, bits = draw >> 9;
        float x = (float)bits * ziggurat_width[layer], height;

        if (draw & 0x100)
            x = -x;
        if (bits < ziggurat_inside[layer])
            return x;
        if (layer == 0) {
            x = numpy_tail(g);
            return bits & 0x100 ? -x : x;
        }
        height = (ziggurat_height[layer - 1] - ziggurat_height[layer]) * numpy_uniform(g) +
                 ziggurat_height[layer];
        if (height < exp(-0.5 * x * x))
            return x;
    }
}

/* The module's face */

void els_noise_init(struct els_noise *g, enum els_noise_kind kind, uint64_t seed)
{
    memset(g, 0, sizeof(*g));
    g->kind = kind;
    if (kind == ELS_NOISE_TORCH)
        mt_seed(g, (uint32_t)seed);
    else
        pcg_seed(g, seed);
}

void els_noise_randn(struct els_noise *g, float *out, size_t n)
{
    if (g->kind == ELS_NOISE_TORCH) {
        torch_randn(g, out, n);
        return;
    }
    for (size_t i = 0; i < n; i++)
        out[i] = numpy_single(g);
}

int els_noise_parse(const char *name, enum els_noise_kind *out)
{
    for (int kind = ELS_NOISE_TORCH; kind <= ELS_NOISE_NUMPY; kind++) {
        if (strcmp(name, els_noise_name((enum els_noise_kind)kind)) == 0) {
            *out = (enum els_noise_kind)kind;
            return 0;
        }
    }
    return ELS_ENOENT;
}

const char *els_noise_name(enum els_noise_kind kind)
{
    return kind == ELS_NOISE_TORCH ? "torch" : "numpy";
}
