/*
 * spec: options into what the library takes.
 *
 *     struct cli_sample_options o = CLI_SAMPLE_DEFAULTS;       // filled by cli_parse
 *     struct cli_spec s = {0};
 *     if (cli_spec_read(&s, &o, &err) < 0)
 *         return cli_fail("%s", err.message);
 *     els_sampler_new(&sampler, &s.spec, &err);
 *     char *json = cli_params_json(&s);                        // the `params` of the HTTP contract
 *     cli_spec_deinit(&s);
 */
#ifndef CLI_SPEC_H
#define CLI_SPEC_H

#include "els/sampler.h"
#include "server/cli/options.h"

/* What sample and denoise share: the bank, the machine, and which images it may use. */
struct cli_choice {
    const char *bank, *label, *exclude_classes, *cpu, *output;
    struct cli_integers exclude_images;
    int machine, candidates, noise_schedule, quiet;
    int64_t max_samples, threads;
    double tolerance;
};

#define CLI_CHOICE_DEFAULTS                                                                        \
    {                                                                                              \
        .bank = "digits", .machine = ELS_MACHINE_BBELS, .candidates = ELS_CANDIDATES_WRAPPED,      \
        .noise_schedule = ELS_COSINE                                                               \
    }

/* Offsets are those of a struct cli_choice that stands first in the command's struct. */
extern const struct cli_option cli_choice_options[];

struct cli_sample_options {
    struct cli_choice choice;
    const char *scales, *noise_file, *outputs;
    struct cli_reals alpha_bar;
    int start_step, sampler, noise;
    int64_t steps, seed, num_images, zoom; /* 0, and −1 for the seed: not given */
};

#define CLI_SAMPLE_DEFAULTS                                                                        \
    {                                                                                              \
        .choice = CLI_CHOICE_DEFAULTS, .seed = -1                                                  \
    }

/* What images are drawn by, and which of it is kept; offsets are those of a struct cli_sample_options that stands
 * first in the command's struct. */
extern const struct cli_option cli_process_options[];
extern const struct cli_option cli_sample_options[];

/* What a sample keeps, in the words of the HTTP contract. */
enum cli_output_bit {
    CLI_OUTPUT_IMAGE = 1,
    CLI_OUTPUT_X0 = 2,
    CLI_OUTPUT_XT = 4,
    CLI_OUTPUT_ENTROPY = 8,
    CLI_OUTPUT_MOSAIC = 16,
};

/* The i-th word ("image" is bit 0), NULL past the end. */
const char *cli_output_word(int i);

struct cli_spec {
    /* Every pointer is owned by this struct, but alpha_bar by the options. */
    struct els_sample_spec spec;
    int64_t *exclude_classes;
    float *x_T;
    const char *preset; /* the scales' name, when they are a preset */
    size_t alpha_bar_count;
    int automatic;    /* the scales are still to be chosen */
    unsigned outputs; /* 0: not given */
};

/* `o` must outlive *s. On failure *s is still to be deinitialised. */
int cli_spec_read(struct cli_spec *s, const struct cli_sample_options *o, struct els_error *err);
void cli_spec_deinit(struct cli_spec *s);

/*
 * Fills *out from the choice; *classes is a new array that *out points to (free()), or NULL.
 */
int cli_selection_read(struct els_selection_spec *out, int64_t **classes,
                       const struct els_bank *bank, const struct cli_choice *choice,
                       struct els_error *err);

/* spec_auto.c: the scales that suit the spec's bank, machine and selection best (scale_auto.h). The number of steps is
 * known already. */
int cli_scales_auto(struct cli_spec *s, const struct cli_choice *choice, struct els_error *err);

/* params.c: resolved and complete, so that sending them to the daemon repeats the job. A new
 * string, or NULL when out of memory. */
char *cli_params_json(const struct cli_spec *s);

#endif
