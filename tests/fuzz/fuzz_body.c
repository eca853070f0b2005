/*
 * Bodies of requests at the edge's API: any bytes give the members that were asked for, each of the type it should
 * have, or an answer 400 that is JSON and says what is wrong.
 *
 * Input: which members are wanted (one byte), then the body. It is also read as an object of services.
 */
#include "edge/api.h"
#include "edge/containers.h"
#include "fuzz.h"
#include "json/json.h"

#define SPACE 300

static void look(const struct api_member *m, const char *space, struct ht_slice body) {
    struct json_error bad;
    FUZZ_CHECK(m->set || !m->required);
    if (!m->set)
        return;
    bool in_space = m->value.p >= space && m->value.p + m->value.n <= space + SPACE;
    bool in_body = m->value.p >= body.p && m->value.p + m->value.n <= body.p + body.n;
    if (m->type == API_TEXT)
        FUZZ_CHECK(m->value.n == 0 || in_space || in_body);
    else if (m->type == API_JSON)
        FUZZ_CHECK(in_body && json_validate(m->value.p, m->value.n, NULL, &bad) == 0);
}

static void services(struct ht_slice body) {
    struct edge_services_reader r;
    char name[EDGE_SERVICE];
    unsigned port = 0;
    int more;
    edge_services_begin(&r, body);
    while ((more = edge_services_next(&r, name, &port)) > 0)
        FUZZ_CHECK(edge_is_service(ht_slice_str(name)) && edge_has_port(ht_slice_str(name)) && port > 0 &&
                   port < 65536);
    FUZZ_CHECK(more == 0 || more == HT_EINVAL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz_in in = {data, data + size};
    if (size > 20000)
        return 0;
    size_t live = ht_mem_live(), n = fuzz_left(&in) ? fuzz_left(&in) - 1 : 0;
    uint8_t how = fuzz_u8(&in);
    struct api_member all[] = {{.name = "ip", .type = API_TEXT, .required = how & 1},
                               {.name = "port", .type = API_NUMBER, .required = how & 2},
                               {.name = "enable_proxy", .type = API_BOOL, .required = how & 4},
                               {.name = "groups", .type = API_JSON, .required = how & 8},
                               {.name = "project_id", .type = API_TEXT, .required = how & 16}};
    size_t count = 1 + how % HT_ARRAY_LEN(all);
    char *body = fuzz_copy(in.p, n), space[SPACE];
    struct edge_api_request req = {.body = ht_slice_of(body, n)};
    struct edge_api_response res = {0};
    int rc = 1;
    if (edge_api_body(&req, &res, all, count, space, sizeof space, &rc)) {
        for (size_t i = 0; i < count; i++)
            look(&all[i], space, req.body);
        FUZZ_CHECK(rc == 1);
    } else {
        struct json_error bad;
        FUZZ_CHECK(rc == HT_OK && res.status == 400);
        FUZZ_CHECK(json_validate((const char *)ht_buf_head(&res.body), ht_buf_size(&res.body), NULL, &bad) == 0);
    }
    services(req.body);
    edge_api_response_free(&res);
    free(body);
    FUZZ_CHECK(ht_mem_live() == live);
    return 0;
}
