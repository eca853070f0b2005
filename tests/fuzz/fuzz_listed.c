/*
 * HAProxy's list of requests: whatever it is, what is read of it makes a command of one word, and an address.
 *
 * Input: the list.
 */
#include "edge/listed.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct ht_slice text = ht_slice_of((const char *)data, size);
    struct edge_listed_set set = {.list = NULL};
    struct edge_listed l;
    size_t n = 0, left = text.n + 1;
    while (edge_listed_next(&text, 7, &l)) {
        FUZZ_CHECK(text.n < left);
        left = text.n;
        size_t hex = strspn(l.name + 2, "0123456789abcdefABCDEF");
        FUZZ_CHECK(l.name[0] == '0' && l.name[1] == 'x' && hex > 0 && !l.name[2 + hex]);
        FUZZ_CHECK(strlen(l.ip) < sizeof l.ip && l.process == 7);
        FUZZ_CHECK(edge_listed_add(&set, &l) == HT_OK);
        n++;
    }
    edge_listed_sort(&set);
    FUZZ_CHECK(set.n == n);
    for (size_t i = 0; i < n; i++) {
        const struct edge_listed *found = edge_listed_find(&set, &set.list[i]);
        FUZZ_CHECK(found && found->number == set.list[i].number);
        FUZZ_CHECK(i == 0 || set.list[i - 1].number <= set.list[i].number);
    }
    edge_listed_free(&set);
    FUZZ_CHECK(ht_mem_live() == 0);
    return 0;
}
