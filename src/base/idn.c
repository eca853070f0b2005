#include "base/idn.h"

#include "base/library.h"

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

bool ht_idn_ascii(const char *text, char *out, size_t cap) {
    char *ascii = NULL;
    bool ok = beyond_ascii(text) && ht_library_need(&idn_file) &&
              idn.to_ascii(text, &ascii, NFC_INPUT | NONTRANSITIONAL) == 0 && ascii && strlen(ascii) < cap;
    if (ok)
        memcpy(out, ascii, strlen(ascii) + 1);
    free(ascii);
    return ok;
}
