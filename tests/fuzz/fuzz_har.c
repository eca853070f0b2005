/*
 * HAR files: any bytes become exchanges of the store, or an error that says where. An exchange that came out of it has
 * a head that the strict parser reads, so that it can be sent again. Nothing is leaked.
 *
 * Input: the file.
 */
#include "fuzz.h"
#include "http/http.h"
#include "inspect/har.h"

static void check_exchange(const struct inspect_exchange *x) {
    static struct http_head head;
    struct http_error e;
    struct ht_slice text = ht_buf_slice(&x->request.head);
    FUZZ_CHECK(x->imported && x->state != INSPECT_RUNNING && x->binding == 0);
    FUZZ_CHECK(text.n > 0 && x->method.n > 0 && x->target.n > 0);
    FUZZ_CHECK(x->status == 0 || (x->status >= 100 && x->status <= 999));
    http_request_begin(&head, &(struct http_limits){1u << 24, HTTP_MAX_HEADERS, 1u << 23});
    int rc = http_head_parse(&head, text.p, text.n, &e);
    /* What is odd about the fields together, such as two lengths, is the replay's to refuse. */
    FUZZ_CHECK(rc == (int)text.n || rc == HT_EPROTO);
    HT_LIST_FOR (it, &x->frames) {
        const struct inspect_frame *f = HT_LIST_ENTRY(it, struct inspect_frame, node);
        FUZZ_CHECK(inspect_opcode_word(f->opcode) != NULL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const struct inspect_store_config cfg = {
        .max_exchanges = 8, .max_bytes = 1u << 20, .max_body = 1u << 16, .max_frames = 4, .max_frame = 64};
    size_t live = ht_mem_live();
    char *text = fuzz_copy(data, size);
    struct inspect_store *store = inspect_store_create(&cfg);
    struct har_in *h = har_in_create(store, ht_slice_of(text, size));
    FUZZ_CHECK(store && h);
    int rc = har_in_read(h, UINT64_MAX);
    FUZZ_CHECK(rc == HT_OK || rc == HT_EPROTO);
    if (rc == HT_EPROTO) {
        struct ht_errmsg why;
        har_in_why(h, &why);
        FUZZ_CHECK(strncmp(why.text, "at byte ", 8) == 0);
    }
    for (uint64_t id = inspect_store_first(store); id < inspect_store_end(store); id++)
        if (inspect_store_get(store, id))
            check_exchange(inspect_store_get(store, id));
    har_in_destroy(&h);
    inspect_store_destroy(&store);
    free(text);
    FUZZ_CHECK(ht_mem_live() == live);
    return 0;
}
