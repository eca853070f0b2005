/*
 * Names with letters beyond ASCII are refused, because what is typed there has many spellings of the same look. The
 * refusal tells the A-label.
 */
#include "cli/cli.h"

#include "base/idn.h"
#include "base/text.h"
#include "wire/name.h"

void cli_idn_hint(const char *text, struct ht_errmsg *err) {
    char ascii[WIRE_HOST_ROOM], shown[160], host[WIRE_HOST_ROOM];
    if (ht_idn_ascii(text, ascii, sizeof ascii) && wire_domain_read(host, ht_slice_str(ascii), 1, NULL) == 0)
        ht_fail(err, HT_EINVAL, "\"%s\": letters beyond ASCII are written as A-labels: %s",
                ht_text_clean(ht_slice_str(text), shown, sizeof shown), host);
}
