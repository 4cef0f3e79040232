/*
 * Mosaics as pictures. Called from any thread; holds no state. Each map is one function from a pixel to its colour.
 */
#include "els/mosaic_picture.h"

#include <math.h>
#include <string.h>

#include "els/colormap.h"

static const char *const names[ELS_MAP_COUNT] = {
    [ELS_MAP_REGION] = "region",
    [ELS_MAP_SOURCE] = "source",
    [ELS_MAP_ENTROPY] = "entropy",
};

const char *els_mosaic_map_name(enum els_mosaic_map map)
{
    return (int)map >= 0 && map < ELS_MAP_COUNT ? names[map] : NULL;
}

int els_mosaic_map_parse(const char *name, enum els_mosaic_map *out)
{
    for (int i = 0; i < ELS_MAP_COUNT; i++)
        if (strcmp(names[i], name) == 0) {
            *out = (enum els_mosaic_map)i;
            return 0;
        }
    return ELS_ENOENT;
}

/* The displacement along an axis of n, the shorter way round where there is one. */
static int shorter(int d, int n, int wraps)
{
    if (!wraps)
        return d;
    d = (d % n + n) % n;
    return 2 * d > n ? d - n : d;
}

static struct els_rgb region_colour(const struct els_mosaic *m, int i, int j)
{
    const struct els_candidate *c = els_mosaic_at(m, i, j, 0);
    int down = shorter(c->row - i, m->height, m->wraps),
        right = shorter(c->column - j, m->width, m->wraps);
    /* One number per origin; what it is does not matter, but that it is the same everywhere. */
    uint64_t origin =
        ((uint64_t)c->image * 1024 + (uint64_t)(down + 512)) * 1024 + (uint64_t)(right + 512);

    return els_colormap_key(origin);
}

static struct els_rgb source_colour(const struct els_mosaic *m, int i, int j)
{
    const struct els_candidate *c = els_mosaic_at(m, i, j, 0);
    double most = hypot(m->height, m->width) / 2;

    return els_colormap_direction(shorter(c->column - j, m->width, m->wraps) / most,
                                  shorter(c->row - i, m->height, m->wraps) / most);
}

static double largest_entropy(const struct els_mosaic *m)
{
    double most = 0;

    for (int at = 0; at < m->height * m->width; at++)
        most = fmax(most, m->entropy[at]);
    return most;
}

int els_mosaic_picture(struct els_picture *out, const struct els_mosaic *m, enum els_mosaic_map map)
{
    double most = largest_entropy(m);
    int r = els_picture_new(out, m->width, m->height, 3);

    if (r < 0)
        return r;
    for (int at = 0; at < m->height * m->width; at++) {
        int i = at / m->width, j = at % m->width;
        struct els_rgb c = map == ELS_MAP_REGION ? region_colour(m, i, j)
                           : map == ELS_MAP_SOURCE
                               ? source_colour(m, i, j)
                               : els_colormap_scale(most > 0 ? m->entropy[at] / most : 0);

        memcpy(out->pixels + (size_t)at * 3, (const uint8_t[]){c.r, c.g, c.b}, 3);
    }
    return 0;
}
