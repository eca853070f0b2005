/*
 * Names with letters beyond ASCII are refused, because what is typed there has many spellings of the same look. The
 * refusal tells the A-label (RFC 5891) where libidn2 is at hand, which glibc recommends; nothing else depends on it.
 */
#include "proc/idn.h"

#include "base/library.h"
#include "base/text.h"
#include "wire/name.h"

#include <stdlib.h>

#define NFC_INPUT 1 /* of idn2.h */
#define NONTRANSITIONAL 8

static struct { int (*to_ascii)(const char *utf8, char **out, int flags); } idn;
static const struct ht_library_function rows[] = {{"idn2_to_ascii_8z", (void **)(void *)&idn.to_ascii}};
static struct ht_library idn_file = {{"libidn2.so.0"}, rows, HT_ARRAY_LEN(rows), HT_LIBRARY_UNKNOWN};

static bool beyond_ascii(const char *text) {
    for (; *text; text++)
        if ((unsigned char)*text >= 0x80)
            return true;
    return false;
}

void proc_idn_hint(const char *text, struct ht_errmsg *err) {
    char *ascii = NULL, shown[160], host[WIRE_HOST_ROOM];
    if (!beyond_ascii(text) || !ht_library_need(&idn_file))
        return;
    if (idn.to_ascii(text, &ascii, NFC_INPUT | NONTRANSITIONAL) == 0 && ascii &&
        wire_domain_read(host, ht_slice_str(ascii), 1, NULL) == 0)
        ht_fail(err, HT_EINVAL, "\"%s\": letters beyond ASCII are written as A-labels: %s",
                ht_text_clean(ht_slice_str(text), shown, sizeof shown), host);
    free(ascii);
}
