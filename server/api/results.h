/*
 * results: an ended job's tensors and pictures, from the store into a response.
 *
 *     struct srv_job_record record = {0};
 *     if (srv_results_find(req, res, id, &record)) {          // else the problem is in `res`
 *         srv_results_answer(req, res, &record, "image/png");
 *         srv_job_record_deinit(&record);
 *     }
 */
#ifndef SRV_RESULTS_H
#define SRV_RESULTS_H

#include "server/http/http.h"
#include "server/store/job_record.h"

#define SRV_JSON_TYPE "application/json"
#define SRV_PNG_TYPE "image/png"
#define SRV_NPY_TYPE "application/x-npy"
#define SRV_SAFETENSORS_TYPE "application/vnd.safetensors"

/* What a job can be served as, NULL-terminated, JSON first. */
extern const char *const srv_results_types[];

/* The job's record. False: 404, 410 or 500 is in `res`. */
bool srv_results_find(struct srv_request *req, struct srv_response *res, const char *id, struct srv_job_record *out);
/* The same, of a job that succeeded: 409 for every other. */
bool srv_results_find_succeeded(struct srv_request *req, struct srv_response *res, const char *id,
                                struct srv_job_record *out);

/* The job as JSON, with any status; small tensors inside, of a kind that says so. */
void srv_results_json(struct srv_request *req, struct srv_response *res, int status, const struct srv_job_record *record);
/* A succeeded job as one of srv_results_types. */
void srv_results_answer(struct srv_request *req, struct srv_response *res, const struct srv_job_record *record,
                        const char *type);
/* One final image, enlarged. */
void srv_results_image(struct srv_request *req, struct srv_response *res, const struct srv_job_record *record,
                       int64_t image, int zoom);
/* The picture of a whole job, of a kind that has one. */
void srv_results_sheet(struct srv_request *req, struct srv_response *res, const struct srv_job_record *record, int zoom);
/* One step of x0 or xt as a picture. */
void srv_results_step(struct srv_request *req, struct srv_response *res, const struct srv_job_record *record, int64_t image,
                      int64_t step, bool xt, int zoom);
/* One tensor as .npy. */
void srv_results_tensor(struct srv_request *req, struct srv_response *res, const struct srv_job_record *record,
                        const char *name);
/* All requested tensors as safetensors. */
void srv_results_tensors(struct srv_request *req, struct srv_response *res, const struct srv_job_record *record);

/* Where every pixel of one image comes from, at a step (−1: the last), as JSON. */
void srv_results_mosaic(struct srv_request *req, struct srv_response *res, const struct srv_job_record *record,
                        int64_t image, int64_t step);

/* The same as a picture: the map of that name. */
void srv_results_map(struct srv_request *req, struct srv_response *res, const struct srv_job_record *record, int64_t image,
                     int64_t step, const char *name, int zoom);

/* Has the job such an image? False: 404 is in `res`. */
bool srv_results_image_exists(struct srv_response *res, const struct srv_job_record *record, int64_t image);
/* A read failed in the middle: the job was deleted meanwhile, or worse. */
void srv_results_reading_failed(struct srv_request *req, struct srv_response *res, const struct srv_job_record *record,
                                int status, const struct els_error *err);
/* What the store said, as a problem: a positive or negative status of store.h. */
void srv_results_store_problem(struct srv_response *res, int status, const struct els_error *err, const char *id);

#endif
