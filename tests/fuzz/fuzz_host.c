/*
 * What names a service at the public port, and what a proxy in front says of a connection. A label or a domain that is
 * taken stays as it is when it is read again, and is what a Host field of it is looked up by. A PROXY header is the
 * same however it is cut, and ends where it ends.
 *
 * Input: text or bytes.
 */
#include "fuzz.h"
#include "io/proxied.h"
#include "wire/name.h"

static void check_host(struct ht_slice text) {
    char label[WIRE_LABEL_ROOM], domain[WIRE_HOST_ROOM], again[WIRE_HOST_ROOM], asked[WIRE_HOST_ROOM];
    struct ht_errmsg err = {""};
    if (wire_label_read(label, text, &err) == 0) {
        FUZZ_CHECK(strlen(label) == text.n && text.n > 0 && text.n <= WIRE_LIMIT_NAME_LABEL);
        FUZZ_CHECK(label[strspn(label, "abcdefghijklmnopqrstuvwxyz0123456789-")] == '\0');
        FUZZ_CHECK(wire_asked_host(asked, ht_slice_str(label)) == strlen(label) && strcmp(asked, label) == 0);
    } else {
        FUZZ_CHECK(err.text[0] != '\0');
    }
    if (wire_domain_read(domain, text, 1, &err) == 0) {
        FUZZ_CHECK(strlen(domain) <= WIRE_LIMIT_NAME_HOST && !strstr(domain, "..") && domain[0] != '.');
        FUZZ_CHECK(wire_domain_read(again, ht_slice_str(domain), 1, &err) == 0 && strcmp(again, domain) == 0);
        FUZZ_CHECK(wire_asked_host(asked, text) == strlen(domain) && strcmp(asked, domain) == 0);
    }
    size_t n = wire_asked_host(asked, text);
    FUZZ_CHECK(n < WIRE_HOST_ROOM && (n == 0 || (n <= text.n && asked[n] == '\0')));
}

static void check_header(const uint8_t *p, size_t size) {
    struct io_proxied whole, part;
    const char *why = NULL;
    ssize_t rc = io_proxied_parse(&whole, p, size, &why);
    FUZZ_CHECK(rc == HT_EAGAIN || (rc == HT_EPROTO && why[0]) ||
               (rc > 0 && (size_t)rc <= size && rc <= IO_PROXIED_MAX));
    for (size_t cut = 0; cut < size && cut < IO_PROXIED_MAX; cut++) {
        ssize_t one = io_proxied_parse(&part, p, cut, &why);
        if (rc > 0 && cut < (size_t)rc)
            FUZZ_CHECK(one == HT_EAGAIN && part.wants <= (size_t)rc && part.wants >= cut);
        else if (rc > 0)
            FUZZ_CHECK(one == rc);
        else if (rc == HT_EAGAIN)
            FUZZ_CHECK(one == HT_EAGAIN);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = malloc(size + 1);
    if (!text)
        abort();
    if (size)
        memcpy(text, data, size);
    check_host(ht_slice_of(text, size));
    check_header((const uint8_t *)text, size);
    free(text);
    return 0;
}
