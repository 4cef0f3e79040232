/*
 * The `digits` bank: digits as a pen would write them. Called by synth.c; holds no state.
 *
 * A digit is a few strokes, each a smooth curve through hand-placed points. For every image the points are
 * moved a little, the curve is flattened, then slanted, turned, bent, sized and placed at random, and
 * inked: a pixel's grey falls off over one soft edge with its distance from the nearest
 * piece of stroke, whose thickness drifts along the way. MNIST's own look was the aim: strokes of two to
 * four pixels, twenty-odd pixels high, ink near the centre of mass, black ground.
 */
#include <math.h>
#include <stddef.h>

#include "core/bank/synth/synth_internal.h"

enum {
    SIDE = 32,
    MAX_STROKES = 3,
    MAX_POINTS = 12,
    PIECES = 8, /* straight pieces between two points of a stroke */
    MAX_KNOTS = (MAX_POINTS - 1) * PIECES + 1,
    MAX_VARIANTS = 3,
};

static const uint64_t SEED = 0x656c73646967;

/* In percent of the digit's box: x to the right, y down. A row of n points; n = 0 ends the strokes. */
struct stroke {
    int n;
    struct {
        int x, y;
    } at[MAX_POINTS];
};

struct glyph {
    struct stroke strokes[MAX_STROKES];
    int narrow; /* in percent of a full digit's width */
};

#define STROKE(count, ...) {.n = (count), .at = {__VA_ARGS__}}

static const struct glyph GLYPHS[10][MAX_VARIANTS] = {
    {
        {{STROKE(9, {52, 1}, {24, 14}, {12, 48}, {22, 86}, {48, 100}, {76, 86}, {88, 50}, {78, 14}, {50, 1})},
         100},
        {{STROKE(10, {66, 6}, {38, 2}, {16, 28}, {14, 66}, {34, 97}, {64, 95}, {86, 66}, {84, 28}, {64, 4},
                 {44, 8})},
         88},
        {{STROKE(9, {56, 0}, {30, 20}, {18, 54}, {26, 90}, {50, 99}, {72, 80}, {82, 44}, {74, 10}, {54, 1})},
         76},
    },
    {
        {{STROKE(3, {50, 0}, {50, 48}, {50, 100})}, 60},
        {{STROKE(3, {54, 0}, {52, 50}, {48, 100})}, 60},
        {{STROKE(3, {30, 24}, {44, 14}, {56, 0}), STROKE(3, {56, 0}, {55, 50}, {54, 100}),
          STROKE(3, {26, 100}, {54, 100}, {84, 99})},
         66},
    },
    {
        {{STROKE(7, {16, 22}, {30, 4}, {58, 0}, {79, 17}, {72, 42}, {46, 70}, {14, 98}),
          STROKE(3, {14, 98}, {50, 96}, {90, 95})},
         94},
        {{STROKE(10, {18, 20}, {36, 2}, {64, 3}, {76, 24}, {64, 52}, {36, 86}, {16, 96}, {14, 82}, {38, 80},
                 {90, 96})},
         100},
        {{STROKE(7, {22, 14}, {46, 0}, {74, 8}, {78, 32}, {58, 60}, {36, 84}, {18, 99}),
          STROKE(3, {18, 99}, {52, 100}, {84, 92})},
         90},
    },
    {
        {{STROKE(5, {18, 12}, {46, 0}, {75, 12}, {70, 36}, {42, 47}),
          STROKE(6, {42, 47}, {72, 52}, {84, 74}, {68, 95}, {42, 100}, {13, 89})},
         92},
        {{STROKE(3, {16, 4}, {48, 3}, {80, 2}), STROKE(3, {80, 2}, {62, 24}, {44, 42}),
          STROKE(6, {44, 42}, {74, 48}, {84, 72}, {66, 96}, {40, 100}, {12, 88})},
         92},
        {{STROKE(9, {22, 8}, {52, 0}, {76, 14}, {66, 38}, {46, 46}, {72, 56}, {80, 78}, {56, 100}, {16, 94})},
         84},
    },
    {
        {{STROKE(4, {26, 2}, {20, 30}, {24, 52}, {52, 54}), STROKE(2, {52, 54}, {84, 48}),
          STROKE(3, {76, 4}, {72, 50}, {66, 100})},
         92},
        {{STROKE(3, {62, 0}, {38, 34}, {12, 64}), STROKE(3, {12, 64}, {52, 64}, {92, 61}),
          STROKE(3, {62, 0}, {62, 52}, {60, 100})},
         96},
        {{STROKE(4, {22, 8}, {14, 36}, {26, 52}, {68, 44}), STROKE(4, {80, 0}, {74, 30}, {66, 66}, {64, 100})},
         90},
    },
    {
        {{STROKE(3, {78, 2}, {52, 3}, {28, 4}), STROKE(3, {28, 4}, {25, 24}, {22, 44}),
          STROKE(6, {22, 44}, {52, 37}, {78, 52}, {78, 80}, {50, 99}, {14, 92})},
         94},
        {{STROKE(8, {34, 2}, {26, 24}, {26, 42}, {54, 46}, {76, 66}, {68, 90}, {42, 100}, {14, 94}),
          STROKE(3, {34, 3}, {58, 4}, {86, 0})},
         92},
        {{STROKE(10, {84, 2}, {52, 4}, {32, 12}, {26, 32}, {40, 44}, {66, 56}, {74, 78}, {54, 98}, {30, 98},
                 {14, 86})},
         88},
    },
    {
        {{STROKE(10, {68, 1}, {42, 18}, {22, 50}, {20, 82}, {44, 100}, {72, 90}, {80, 68}, {60, 54}, {36, 62},
                 {22, 80})},
         84},
        {{STROKE(10, {58, 0}, {34, 26}, {20, 62}, {28, 92}, {54, 100}, {76, 84}, {68, 62}, {48, 60}, {32, 72},
                 {30, 86})},
         76},
        {{STROKE(10, {78, 6}, {48, 12}, {24, 38}, {16, 72}, {38, 98}, {70, 94}, {84, 72}, {66, 52}, {38, 56},
                 {20, 72})},
         92},
    },
    {
        {{STROKE(3, {12, 8}, {48, 5}, {86, 4}), STROKE(4, {86, 4}, {66, 36}, {52, 66}, {44, 100})}, 90},
        {{STROKE(3, {14, 6}, {50, 6}, {84, 2}), STROKE(4, {84, 2}, {64, 34}, {50, 66}, {40, 100}),
          STROKE(2, {34, 52}, {78, 48})},
         92},
        {{STROKE(7, {10, 18}, {16, 6}, {48, 8}, {78, 2}, {72, 28}, {56, 62}, {46, 100})}, 86},
    },
    {
        {{STROKE(11, {76, 14}, {50, 0}, {26, 14}, {34, 36}, {62, 54}, {80, 78}, {52, 100}, {22, 82}, {36, 58},
                 {64, 36}, {76, 12})},
         86},
        {{STROKE(12, {54, 46}, {28, 34}, {30, 8}, {54, 0}, {76, 14}, {68, 38}, {42, 52}, {20, 76}, {42, 100},
                 {70, 92}, {76, 66}, {50, 45})},
         88},
        {{STROKE(11, {82, 6}, {54, 2}, {34, 18}, {42, 38}, {62, 56}, {70, 80}, {50, 99}, {28, 84}, {40, 58},
                 {68, 34}, {84, 8})},
         80},
    },
    {
        {{STROKE(7, {76, 18}, {50, 1}, {24, 16}, {22, 40}, {48, 50}, {70, 36}, {77, 14}),
          STROKE(3, {77, 14}, {74, 58}, {68, 100})},
         82},
        {{STROKE(7, {72, 16}, {48, 2}, {22, 20}, {24, 44}, {52, 48}, {72, 32}, {76, 10}),
          STROKE(5, {76, 10}, {78, 52}, {68, 88}, {44, 100}, {20, 92})},
         84},
        {{STROKE(11, {78, 8}, {50, 0}, {24, 18}, {26, 42}, {50, 46}, {72, 30}, {80, 6}, {74, 34}, {66, 58},
                 {56, 80}, {48, 100})},
         88},
    },
};

struct knot {
    double x, y, radius;
};

/* Everything that one image draws at random before its first stroke. */
struct hand {
    double height, width;    /* of the box, in pixels */
    double x, y;             /* of its centre */
    double slant, cos, sin;  /* shear, then rotation */
    double bend_x, bend_y;   /* how far the middle bulges */
    double wobble;           /* of the points, in percent of the box */
    double radius, drift;    /* half the stroke's thickness, in pixels, and its share that varies */
    double edge, ink;        /* width of the soft edge, in pixels; grey of the full stroke */
};

static struct hand random_hand(uint64_t *rng, int narrow)
{
    struct hand h;
    double tangent;

    h.height = 21 + 3 * els_synth_bell(rng);
    h.width = h.height * els_synth_between(rng, 0.72, 1.02) * narrow / 100;
    h.x = SIDE / 2.0 - 0.5 + 1.8 * els_synth_bell(rng);
    h.y = SIDE / 2.0 - 0.5 + 1.5 * els_synth_bell(rng);
    h.slant = 0.12 + 0.38 * els_synth_bell(rng);
    /* A rotation without sin and cos, from the tangent of half its angle. */
    tangent = 0.14 * els_synth_bell(rng);
    h.cos = (1 - tangent * tangent) / (1 + tangent * tangent);
    h.sin = 2 * tangent / (1 + tangent * tangent);
    h.bend_x = 0.10 * els_synth_bell(rng);
    h.bend_y = 0.08 * els_synth_bell(rng);
    h.wobble = 3.4;
    h.radius = 1.45 + 0.75 * els_synth_bell(rng);
    h.drift = 0.22 * els_synth_between(rng, 0, 1);
    h.edge = els_synth_between(rng, 1.1, 1.7);
    h.ink = els_synth_between(rng, 232, 262);
    return h;
}

/* From the unit box, centred on 0, to pixels. */
static struct knot place(const struct hand *h, double u, double v, double radius)
{
    double x = u + h->bend_x * (1 - 4 * v * v), y = v + h->bend_y * (1 - 4 * u * u);
    double px = x * h->width - h->slant * y * h->height, py = y * h->height;

    return (struct knot){
        .x = h->x + h->cos * px - h->sin * py,
        .y = h->y + h->sin * px + h->cos * py,
        .radius = radius,
    };
}

/* Catmull-Rom: the smooth curve through b and c, with a and d beyond them. */
static double curve(double a, double b, double c, double d, double t)
{
    double p = c - a, q = 2 * a - 5 * b + 4 * c - d, r = 3 * b - a - 3 * c + d;

    return b + t * (p + t * (q + t * r)) / 2;
}

/* The stroke as straight pieces; returns the number of knots. */
static int flatten(struct knot *out, const struct stroke *s, const struct hand *h, uint64_t *rng)
{
    double x[MAX_POINTS], y[MAX_POINTS], radius[MAX_POINTS];
    int n = 0;

    for (int i = 0; i < s->n; i++) {
        x[i] = (s->at[i].x + h->wobble * els_synth_bell(rng)) / 100 - 0.5;
        y[i] = (s->at[i].y + h->wobble * els_synth_bell(rng)) / 100 - 0.5;
        radius[i] = h->radius * (1 + h->drift * els_synth_bell(rng));
    }
    for (int i = 0; i + 1 < s->n; i++) {
        int a = i ? i - 1 : 0, d = i + 2 < s->n ? i + 2 : i + 1;

        for (int k = 0; k < PIECES; k++) {
            double t = (double)k / PIECES;

            out[n++] = place(h, curve(x[a], x[i], x[i + 1], x[d], t), curve(y[a], y[i], y[i + 1], y[d], t),
                             radius[i] + (radius[i + 1] - radius[i]) * t);
        }
    }
    out[n++] = place(h, x[s->n - 1], y[s->n - 1], radius[s->n - 1]);
    return n;
}

/* How far `out` is inked by the piece from a to b; the most that any piece gives stays. */
static void ink_piece(double *out, const struct knot *a, const struct knot *b, double edge)
{
    double dx = b->x - a->x, dy = b->y - a->y, length2 = dx * dx + dy * dy;
    double per_length2 = length2 > 0 ? 1 / length2 : 0, per_edge = 1 / edge;
    double reach = (a->radius > b->radius ? a->radius : b->radius) + edge / 2; /* no ink farther away */
    int x0 = (int)els_synth_clamp((a->x < b->x ? a->x : b->x) - reach, 0, SIDE - 1);
    int x1 = (int)els_synth_clamp((a->x > b->x ? a->x : b->x) + reach, 0, SIDE - 1);
    int y0 = (int)els_synth_clamp((a->y < b->y ? a->y : b->y) - reach, 0, SIDE - 1);
    int y1 = (int)els_synth_clamp((a->y > b->y ? a->y : b->y) + reach, 0, SIDE - 1);

    for (int y = y0; y <= y1; y++) {
        for (int x = x0; x <= x1; x++) {
            double along = ((x - a->x) * dx + (y - a->y) * dy) * per_length2;
            double t = els_synth_clamp(along, 0, 1);
            double ex = x - (a->x + t * dx), ey = y - (a->y + t * dy), d2 = ex * ex + ey * ey;
            double cover;

            if (d2 >= reach * reach)
                continue;
            cover = (a->radius + t * (b->radius - a->radius) - sqrt(d2)) * per_edge + 0.5;
            if (cover > out[y * SIDE + x])
                out[y * SIDE + x] = cover;
        }
    }
}

struct lines {
    int n[MAX_STROKES];
    struct knot knots[MAX_STROKES][MAX_KNOTS];
};

/* By how much to move what reaches from `low` to `high` so that it stays on the picture. */
static double shift_inside(double low, double high)
{
    return low < 0 ? -low : high > SIDE - 1 ? SIDE - 1 - high : 0;
}

/* Moves the digit so that no stroke leaves the picture; the largest is smaller than it. */
static void keep_inside(struct lines *l, double edge)
{
    double x0 = SIDE, x1 = 0, y0 = SIDE, y1 = 0, dx, dy;

    for (int s = 0; s < MAX_STROKES; s++) {
        for (int k = 0; k < l->n[s]; k++) {
            const struct knot *at = &l->knots[s][k];
            double reach = at->radius + edge / 2;

            x0 = fmin(x0, at->x - reach);
            x1 = fmax(x1, at->x + reach);
            y0 = fmin(y0, at->y - reach);
            y1 = fmax(y1, at->y + reach);
        }
    }
    dx = shift_inside(x0, x1);
    dy = shift_inside(y0, y1);
    for (int s = 0; s < MAX_STROKES; s++) {
        for (int k = 0; k < l->n[s]; k++) {
            l->knots[s][k].x += dx;
            l->knots[s][k].y += dy;
        }
    }
}

void els_synth_draw_digit(uint8_t *out, int i)
{
    uint64_t rng = SEED + (uint64_t)i * 0x632be59bd9b4e019;
    const struct glyph *glyph = &GLYPHS[i % 10][els_random_next(&rng) % MAX_VARIANTS];
    struct hand hand = random_hand(&rng, glyph->narrow);
    double cover[SIDE * SIDE] = {0};
    struct lines lines = {0};

    for (int s = 0; s < MAX_STROKES && glyph->strokes[s].n; s++)
        lines.n[s] = flatten(lines.knots[s], &glyph->strokes[s], &hand, &rng);
    keep_inside(&lines, hand.edge);
    for (int s = 0; s < MAX_STROKES; s++)
        for (int k = 0; k + 1 < lines.n[s]; k++)
            ink_piece(cover, &lines.knots[s][k], &lines.knots[s][k + 1], hand.edge);
    for (int p = 0; p < SIDE * SIDE; p++)
        out[p] = (uint8_t)(els_synth_clamp(els_synth_clamp(cover[p], 0, 1) * hand.ink, 0, 255) + 0.5);
}
