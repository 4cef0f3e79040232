/*
 * From a body to a job: JSON (or a safetensors container with the parameters in its metadata) to
 * checked parameters. The first byte chooses the kind of job and the form of the body. What is
 * accepted must resolve to itself when it is sent again, for that is what every answer promises.
 */
#include <string.h>

#include "fuzz.h"
#include "server/base/json_body.h"
#include "server/params/params.h"

static struct srv_banks *banks;

static void setup(void)
{
    static char name[] = "two-tone";
    struct srv_config_bank bank = {name, name};
    struct srv_config config = {.banks = &bank, .num_banks = 1};

    if (!banks)
        FUZZ_CHECK(srv_banks_new(&banks, &config, NULL, NULL, NULL, NULL) == 0);
}

static struct srv_params *read_params(const struct srv_job_type *kind, json_t *body,
                                      const struct els_safetensors *tensors)
{
    struct srv_params_source source = {
        .kind = kind, .banks = banks, .body = body, .tensors = tensors,
        .limits = {.max_num_images = 4, .max_num_inference_steps = 64, .max_result_bytes = 1 << 20, .max_excluded = 1000}};
    struct srv_params *params = NULL;
    struct srv_faults faults;
    int status = srv_params_new(&params, &source, &faults);

    FUZZ_CHECK((status == 0) == (faults.count == 0) && (status == 0) == (params != NULL));
    for (size_t i = 0; i < faults.count; i++)
        FUZZ_CHECK(faults.fault[i].detail[0]);
    return params;
}

static void check_resolved(const struct srv_job_type *kind, const struct srv_params *params,
                           const struct els_safetensors *tensors)
{
    struct srv_json_error error;
    json_t *body = srv_json_parse(params->json, strlen(params->json), NULL, &error);
    struct srv_params *again;

    FUZZ_CHECK(body);
    again = read_params(kind, body, tensors);
    FUZZ_CHECK(again && strcmp(again->json, params->json) == 0);
    srv_params_free(again);
    json_decref(body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct els_safetensors *tensors = NULL;
    struct srv_params *params = NULL;
    const struct srv_job_type *kind;
    struct srv_json_error error;
    const char *text = (const char *)data + 1;
    size_t length = size - 1, kinds = 0;
    json_t *body = NULL;

    if (size < 1)
        return 0;
    setup();
    while (srv_job_type_at(kinds))
        kinds++;
    kind = srv_job_type_at((data[0] & 0x0f) % kinds);
    if (data[0] & 0x10) {
        if (els_safetensors_parse(&tensors, text, length, NULL) < 0)
            return 0;
        text = els_safetensors_metadata(tensors, "params");
        length = text ? strlen(text) : 0;
    }
    body = srv_json_parse(text ? text : "", length, NULL, &error);
    if (body)
        params = read_params(kind, body, tensors);
    if (params)
        check_resolved(kind, params, tensors);
    srv_params_free(params);
    json_decref(body);
    els_safetensors_free(tensors);
    return 0;
}
