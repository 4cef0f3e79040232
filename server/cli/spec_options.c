/*
 * The option tables of sample and denoise: names, bounds and words, in the order that help prints
 * them. Read only.
 */
#include "server/cli/spec.h"

static const char *machine_word(int i)
{
    return els_machine_name((enum els_machine)i);
}

static const char *candidates_word(int i)
{
    return els_candidates_name((enum els_candidates)i);
}

static const char *schedule_word(int i)
{
    return els_schedule_name((enum els_schedule)i);
}

static const char *start_step_word(int i)
{
    return i == ELS_START_PAPER ? "paper" : i == ELS_START_FULL ? "full" : NULL;
}

static const char *sampler_word(int i)
{
    return i == ELS_DDIM ? "ddim" : i == ELS_DDPM ? "ddpm" : NULL;
}

static const char *noise_word(int i)
{
    return i == ELS_NOISE_TORCH || i == ELS_NOISE_NUMPY ? els_noise_name((enum els_noise_kind)i)
                                                        : NULL;
}

const char *cli_output_word(int i)
{
    static const char *const words[] = {"image", "x0", "xt", "entropy", "mosaic"};

    return i >= 0 && i < (int)(sizeof(words) / sizeof(*words)) ? words[i] : NULL;
}

#define AT(member) offsetof(struct cli_choice, member)

const struct cli_option cli_choice_options[] = {
    {"bank", 'b', "FILE|NAME", CLI_TEXT, AT(bank),
     .help = "a .safetensors bank, or a built-in one"},
    {"machine", 'm', "NAME", CLI_WORD, AT(machine), .word = machine_word,
     .help = "the score machine"},
    {"candidates", 0, "RULE", CLI_WORD, AT(candidates), .word = candidates_word,
     .help = "which patches the machine els takes"},
    {"label", 'l', "CLASS", CLI_TEXT, AT(label),
     .help = "use the images of one class only: its index, or its name"},
    {"max-samples", 0, "M", CLI_INTEGER, AT(max_samples), 1, ELS_MAX_IMAGES,
     .help = "use the first M images only (of the label)"},
    {"exclude-images", 0, "I,J,...", CLI_INTEGERS, AT(exclude_images), 0, ELS_MAX_IMAGES - 1,
     .help = "leave these images out, by index"},
    {"exclude-classes", 0, "A,B,...", CLI_TEXT, AT(exclude_classes),
     .help = "leave these classes out, by index or name"},
    {"noise-schedule", 0, "NAME", CLI_WORD, AT(noise_schedule), .word = schedule_word,
     .help = "the noise level over time"},
    {"tolerance", 0, "E", CLI_REAL, AT(tolerance), 0, 1,
     .help =
         "skip work as long as every pixel of every estimate is certified within E; 0 is exact"},
    {"threads", 'j', "N", CLI_INTEGER, AT(threads), 0, ELS_MAX_THREADS,
     .help = "0 is one per core; the result is the same bytes for any number"},
    {"cpu", 0, "NAME", CLI_TEXT, AT(cpu),
     .help = "inner loops for this kind of CPU, for example c or avx2; by default the fastest that "
             "this one can run"},
    {"quiet", 'q', NULL, CLI_FLAG, AT(quiet), .help = "no progress and no summary on stderr"},
    {"output", 'o', "FILE", CLI_TEXT, AT(output), .required = 1,
     .help = "where the result goes; the ending says in which form"},
    {0},
};

#undef AT
#define AT(member) offsetof(struct cli_sample_options, member)

const struct cli_option cli_process_options[] = {
    {"seed", 's', "N", CLI_INTEGER, AT(seed), 0, (double)ELS_MAX_SEED,
     .help = "of the first image; by default a random one, which the summary names"},
    {"steps", 0, "N", CLI_INTEGER, AT(steps), 2, ELS_MAX_INFERENCE_STEPS,
     .help = "by default as many as a scale list has entries, else 20"},
    {"scales", 0, "SCALES", CLI_TEXT, AT(scales),
     .help = "locality scales P: a preset's name, one odd number, a list with one per step, "
             "3,3,5,..., JSON {\"t\":[...],\"p\":[...]}, or auto, which chooses those that denoise "
             "held-out images of the bank best; by default the bank's own, else "
             "mnist-resnet-zeros; is and es ignore them"},
    {"start-step", 0, "WHERE", CLI_WORD, AT(start_step), .word = start_step_word,
     .help = "paper runs steps n-1 ... 1 from unit noise, full runs n ... 1"},
    {"sampler", 0, "NAME", CLI_WORD, AT(sampler), .word = sampler_word,
     .help = "ddim is deterministic, ddpm adds noise at every step"},
    {"alpha-bar", 0, "A0,A1,...", CLI_REALS, AT(alpha_bar), 0, 1,
     .help = "explicit noise levels instead of --noise-schedule: one more than steps, falling, "
             "entry i for t = i/steps"},
    {"noise", 0, "KIND", CLI_WORD, AT(noise), .word = noise_word,
     .help = "whose generator draws the initial noise"},
    {"noise-file", 0, "X.npy", CLI_TEXT, AT(noise_file),
     .help = "take the initial noise from a float array [N,C,H,W] or [C,H,W] instead"},
    {0},
};

const struct cli_option cli_sample_options[] = {
    {"num-images", 'n', "N", CLI_INTEGER, AT(num_images), 1, ELS_MAX_NUM_IMAGES,
     .help = "how many; image i uses seed+i; by default 1, or as many as --noise-file holds"},
    {"outputs", 0, "A,B,...", CLI_TEXT, AT(outputs),
     .help = "what a .safetensors result holds, of image, x0, xt, entropy and mosaic (default image,x0)"},
    {"zoom", 'z', "K", CLI_INTEGER, AT(zoom), 1, 16, .help = "enlarge a .png result K times"},
    {0},
};
