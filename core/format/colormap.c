/*
 * Perceptually uniform colours, from OKLab's cylinder (lightness L, chroma C, hue h) to sRGB. Called from any thread;
 * holds no state.
 *
 * The scale is a helix: L, and h with C constant, change evenly, so every step along it has the same length in OKLab.
 * Its ends and its chroma are chosen so that no point leaves sRGB: the most chroma that fits is 0.124.
 */
#include "els/colormap.h"

#include <math.h>

#define TURN 6.283185307179586

struct linear {
    double r, g, b;
};

static struct linear from_oklab(double lightness, double a, double b)
{
    double l = lightness + 0.3963377774 * a + 0.2158037573 * b;
    double m = lightness - 0.1055613458 * a - 0.0638541728 * b;
    double s = lightness - 0.0894841775 * a - 1.2914855480 * b;

    l *= l * l;
    m *= m * m;
    s *= s * s;
    return (struct linear){
        4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
        -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
        -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s,
    };
}

/* sRGB's transfer curve. */
static uint8_t encode(double v)
{
    v = v < 0 ? 0 : v > 1 ? 1 : v;
    v = v <= 0.0031308 ? 12.92 * v : 1.055 * pow(v, 1 / 2.4) - 0.055;
    return (uint8_t)floor(255 * v + 0.5);
}

static int is_inside(struct linear v)
{
    return v.r >= 0 && v.r <= 1 && v.g >= 0 && v.g <= 1 && v.b >= 0 && v.b <= 1;
}

/* The colour, or the nearest of less chroma that sRGB has; hue in turns. */
static struct els_rgb colour(double lightness, double chroma, double hue)
{
    double a = cos(TURN * hue), b = sin(TURN * hue), fits = 0, wanted = chroma;
    struct linear v = from_oklab(lightness, chroma * a, chroma * b);

    for (int i = 0; i < 12 && !is_inside(v); i++) {
        /* Halving: `fits` is inside, `wanted` is not. */
        double half = (fits + wanted) / 2;

        if (is_inside(from_oklab(lightness, half * a, half * b)))
            fits = half;
        else
            wanted = half;
    }
    if (!is_inside(v))
        v = from_oklab(lightness, fits * a, fits * b);
    return (struct els_rgb){encode(v.r), encode(v.g), encode(v.b)};
}

struct els_rgb els_colormap_scale(double v)
{
    v = v >= 0 ? v <= 1 ? v : 1 : 0;
    return colour(0.22 + 0.72 * v, 0.12, (290 + 170 * v) / 360);
}

struct els_rgb els_colormap_key(uint64_t key)
{
    /* Multiples of the golden ratio, modulo 1, keep away from one another. */
    double hue = (double)(key * 0x9e3779b97f4a7c15u >> 11) * 0x1p-53;

    return colour(0.52 + 0.15 * (double)(key % 3), 0.12, hue);
}

struct els_rgb els_colormap_direction(double right, double down)
{
    double length = hypot(right, down);

    return colour(0.7, 0.11 * (length < 1 ? length : 1), atan2(down, right) / TURN);
}
