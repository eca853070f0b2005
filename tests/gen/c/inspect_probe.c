/* The routes of the inspector's API on a command line, for tests/gen/test_gen_openapi.py. */
#include "inspect_api_gen.h"

#include <stdio.h>

int main(int argc, char **argv) {
    struct inspect_api_params p;
    int status;
    if (argc < 4)
        return 2;
    const struct inspect_api_route *r =
        inspect_api_route_match(ht_slice_str(argv[2]), ht_slice_str(argv[3]), &p, &status);
    printf("status=%d\n", status);
    if (status == 405)
        printf("allow=%s\n", p.allow);
    if (status == 400)
        printf("error=%s\n", p.error);
    if (!r)
        return 0;
    printf("route=%s %s auth=%d max=%llu\n", r->method, r->path, (int)r->auth, (unsigned long long)r->max_body);
    printf("body=%s set=%d\nheader=%s set=%d\nfields=%s set=%d\n", p.body, p.set_body, p.header, p.set_header, p.fields,
           p.set_fields);
    return 0;
}
