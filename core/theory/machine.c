/*
 * The names of the five machines and what may be asked of them. Pure functions; called from any
 * thread. The candidate rules themselves live with the engine.
 */
#include "els/machine.h"

#include <stddef.h>
#include <string.h>

#include "els/scale.h"

static const struct {
    const char *name;
    int uses_p;
    const char *summary;
} machines[ELS_MACHINE_COUNT] = {
    [ELS_MACHINE_IS] = {"is", 0, "ideal score: whole images in place; reproduces the training set"},
    [ELS_MACHINE_ES] = {"es", 0, "equivariant score: whole images at every circular shift"},
    [ELS_MACHINE_LS] = {"ls", 1, "local score: patches from the same place of every image"},
    [ELS_MACHINE_ELS] = {"els", 1,
                         "equivariant local score: patches from every place of every image"},
    [ELS_MACHINE_BBELS] = {"bbels", 1,
                           "equivariant local score with borders: edges and corners keep their "
                           "place, as in a zero-padded network"},
};

static const char *const candidates[ELS_CANDIDATES_COUNT] = {
    [ELS_CANDIDATES_WRAPPED] = "wrapped",
    [ELS_CANDIDATES_VALID] = "valid",
};

static int is_machine(enum els_machine m)
{
    return (int)m >= 0 && m < ELS_MACHINE_COUNT;
}

const char *els_machine_name(enum els_machine m)
{
    return is_machine(m) ? machines[m].name : NULL;
}

int els_machine_parse(const char *name, enum els_machine *out)
{
    for (int m = 0; m < ELS_MACHINE_COUNT; m++) {
        if (strcmp(name, machines[m].name) == 0) {
            *out = (enum els_machine)m;
            return 0;
        }
    }
    return ELS_ENOENT;
}

const char *els_candidates_name(enum els_candidates c)
{
    return (int)c >= 0 && c < ELS_CANDIDATES_COUNT ? candidates[c] : NULL;
}

int els_candidates_parse(const char *name, enum els_candidates *out)
{
    for (int c = 0; c < ELS_CANDIDATES_COUNT; c++) {
        if (strcmp(name, candidates[c]) == 0) {
            *out = (enum els_candidates)c;
            return 0;
        }
    }
    return ELS_ENOENT;
}

const char *els_machine_summary(enum els_machine m)
{
    return is_machine(m) ? machines[m].summary : NULL;
}

int els_machine_uses_p(enum els_machine m)
{
    return is_machine(m) && machines[m].uses_p;
}

int els_machine_check_p(enum els_machine m, struct els_shape shape, int p, struct els_error *err)
{
    int side = shape.h < shape.w ? shape.h : shape.w;

    if (!els_machine_uses_p(m))
        return 0;
    if (p < 1 || p > ELS_MAX_P || p % 2 == 0)
        return els_fail(err, ELS_EINVAL, "scales",
                        "the locality scale P is %d; it must be odd, from 1 to %d", p, ELS_MAX_P);
    /* A wider circular window would meet the same pixel twice. */
    if (m == ELS_MACHINE_ELS && p > side)
        return els_fail(
            err, ELS_EINVAL, "scales",
            "the locality scale P is %d; the machine els on %d×%d images allows 1 to %d, odd", p,
            shape.h, shape.w, side);
    return 0;
}
