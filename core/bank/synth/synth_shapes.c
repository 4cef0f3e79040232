/*
 * The `shapes` bank: one shape in one or two colours on a coloured ground. Called by synth.c; holds no state.
 *
 * A pixel is the mean of 4×4 samples. A sample is mapped into the shape's own coordinates (turned and sized,
 * the shape fills the unit circle), and asked whether it is inside. Every start of a process draws the bank, so what
 * depends on a sample's row or column alone is computed once for each of them.
 */
#include <math.h>
#include <stddef.h>

#include "core/bank/synth/synth_internal.h"

enum { SIDE = 32, SUB = 4, SAMPLES = SIDE * SUB, NUM_KINDS = 6 };

static const uint64_t SEED = 0x656c73736861;

struct colour {
    double r, g, b;
};

struct scene {
    int kind;
    double x, y, cos, sin, size; /* centre in pixels, direction, radius in pixels */
    double gx, gy;               /* direction of the ground's gradient */
    struct colour ground[2], fill[2], rim;
    double rim_from;             /* the shape, shrunk by this, has the fill; 1: no rim */
};

/* A corner every 36°, alternately on the unit circle and inside it. */
static const double STAR[10][2] = {
    {0, -1},          {0.2469, -0.3399},  {0.9511, -0.3090},  {0.3995, 0.1298},   {0.5878, 0.8090},
    {0, 0.4200},      {-0.5878, 0.8090},  {-0.3995, 0.1298},  {-0.9511, -0.3090}, {-0.2469, -0.3399},
};

/* Even-odd rule. */
static int inside_star(double u, double v)
{
    int inside = 0;

    if (fabs(u) > 0.96 || fabs(v) > 1)
        return 0;
    for (int i = 0; i < 10; i++) {
        const double *a = STAR[i], *b = STAR[(i + 1) % 10];

        if ((a[1] > v) != (b[1] > v) && u < a[0] + (v - a[1]) / (b[1] - a[1]) * (b[0] - a[0]))
            inside = !inside;
    }
    return inside;
}

static int inside(int kind, double u, double v)
{
    double au = fabs(u), av = fabs(v), d2 = u * u + v * v;

    switch (kind) {
    case 0: /* circle */
        return d2 < 0.81;
    case 1: /* square */
        return au < 0.76 && av < 0.76;
    case 2: /* triangle, equilateral, on the unit circle */
        return v < 0.5 && 1.7320508 * au - v < 1;
    case 3:
        return inside_star(u, v);
    case 4: /* ring */
        return d2 < 0.9 && d2 > 0.28;
    default: /* cross */
        return (au < 0.3 && av < 0.92) || (av < 0.3 && au < 0.92);
    }
}

/* Hue 0…6 around the colour circle, saturation and value 0…1. */
static struct colour from_hue(double hue, double saturation, double value)
{
    double rgb[3];

    for (int i = 0; i < 3; i++) {
        /* Distance around the circle to this channel's own hue: 0, 2 or 4. */
        double d = fabs(hue - 2 * i);
        double share = els_synth_clamp(2 - (d > 3 ? 6 - d : d), 0, 1);

        rgb[i] = value * (1 - saturation + saturation * share);
    }
    return (struct colour){rgb[0], rgb[1], rgb[2]};
}

static struct colour mix(struct colour a, struct colour b, double t)
{
    t = els_synth_clamp(t, 0, 1);
    return (struct colour){a.r + t * (b.r - a.r), a.g + t * (b.g - a.g), a.b + t * (b.b - a.b)};
}

static double wrap_hue(double hue)
{
    return hue >= 6 ? hue - 6 : hue < 0 ? hue + 6 : hue;
}

/* One draw per statement: C leaves the order of a call's arguments open, and compilers differ. */
static struct colour random_colour(uint64_t *rng, double hue, double least_saturation,
                                   double most_saturation, double least_value, double most_value)
{
    double saturation = els_synth_between(rng, least_saturation, most_saturation);
    double value = els_synth_between(rng, least_value, most_value);

    return from_hue(hue, saturation, value);
}

static struct scene random_scene(uint64_t *rng, int kind)
{
    struct scene s = {.kind = kind};
    double ground_hue = els_synth_between(rng, 0, 6);
    /* A sixth of the circle away at least, and a different lightness: the shape always shows. */
    double fill_hue = wrap_hue(ground_hue + els_synth_between(rng, 1.2, 4.8));
    int dark = els_synth_between(rng, 0, 1) < 0.5;
    double tangent = els_synth_between(rng, -1, 1), g = els_synth_between(rng, -1, 1);

    s.ground[0] = random_colour(rng, ground_hue, 0.25, 0.85, dark ? 0.15 : 0.75, dark ? 0.4 : 1);
    s.ground[1] = mix(s.ground[0], from_hue(wrap_hue(ground_hue + 0.7), 0.6, dark ? 0.35 : 0.8), 0.7);
    s.fill[0] = random_colour(rng, fill_hue, 0.55, 1, dark ? 0.75 : 0.3, dark ? 1 : 0.6);
    s.fill[1] = mix(s.fill[0], from_hue(wrap_hue(fill_hue + 0.5), 0.8, dark ? 1 : 0.35), 0.6);
    s.rim = dark ? (struct colour){1, 1, 1} : (struct colour){0.08, 0.08, 0.1};
    s.rim_from = els_synth_between(rng, 0, 1) < 0.3 ? 0.8 : 1;
    s.size = els_synth_between(rng, 7.5, 13.5);
    s.x = SIDE / 2.0 + (15 - s.size) * els_synth_between(rng, -1, 1);
    s.y = SIDE / 2.0 + (15 - s.size) * els_synth_between(rng, -1, 1);
    s.cos = (1 - tangent * tangent) / (1 + tangent * tangent);
    s.sin = 2 * tangent / (1 + tangent * tangent);
    s.gx = (1 - g * g) / (1 + g * g);
    s.gy = 2 * g / (1 + g * g);
    return s;
}

/* A row or a column of samples: its share of a sample's place in the shape, and of its place along the ground. */
struct line {
    double u, v, along;
    struct colour fill; /* of a row */
};

static void set_lines(struct line *rows, struct line *columns, const struct scene *s)
{
    for (int i = 0; i < SAMPLES; i++) {
        double at = (i + 0.5) / SUB, middle = at - SIDE / 2.0;
        double dx = (at - s->x) / s->size, dy = (at - s->y) / s->size;

        columns[i] = (struct line){.u = s->cos * dx, .v = -s->sin * dx, .along = 0.5 + s->gx * middle / SIDE};
        rows[i] = (struct line){
            .u = s->sin * dy,
            .v = s->cos * dy,
            .along = s->gy * middle / SIDE,
            .fill = mix(s->fill[0], s->fill[1], 0.5 + dy / 2),
        };
    }
}

static struct colour sample(const struct scene *s, const struct line *row, const struct line *column)
{
    double u = column->u + row->u, v = column->v + row->v;

    if (!inside(s->kind, u, v))
        return mix(s->ground[0], s->ground[1], column->along + row->along);
    if (s->rim_from < 1 && !inside(s->kind, u / s->rim_from, v / s->rim_from))
        return s->rim;
    return row->fill;
}

void els_synth_draw_shape(uint8_t *out, int i)
{
    uint64_t rng = SEED + (uint64_t)i * 0x632be59bd9b4e019;
    struct scene s = random_scene(&rng, i % NUM_KINDS);
    struct line rows[SAMPLES], columns[SAMPLES];

    set_lines(rows, columns, &s);
    for (int y = 0; y < SIDE; y++) {
        for (int x = 0; x < SIDE; x++) {
            struct colour sum = {0};
            double scale = 255.0 / (SUB * SUB);

            for (int k = 0; k < SUB * SUB; k++) {
                struct colour c = sample(&s, &rows[y * SUB + k / SUB], &columns[x * SUB + k % SUB]);

                sum = (struct colour){sum.r + c.r, sum.g + c.g, sum.b + c.b};
            }
            out[y * SIDE + x] = (uint8_t)(sum.r * scale + 0.5);
            out[SIDE * SIDE + y * SIDE + x] = (uint8_t)(sum.g * scale + 0.5);
            out[2 * SIDE * SIDE + y * SIDE + x] = (uint8_t)(sum.b * scale + 0.5);
        }
    }
}
