/* Takes a specification as JSON, as a service would, and answers with the whole outcome as JSON. */
#include <stdio.h>
#include <stockade.h>

static const char json[] =
    "{\"args\": [\"sh\", \"solution.sh\"],"
    " \"files\": {\"solution.sh\": \"while :; do :; done\"},"
    " \"cpu_time\": \"200ms\", \"wall_time\": \"10s\", \"memory\": \"64m\", \"pids\": 16}";

int main(void)
{
    stockade_spec *spec = NULL;
    stockade_outcome *outcome = NULL;
    stockade_error *error = NULL;
    char *answer = NULL;
    int status = stockade_spec_from_json(json, &spec, &error);

    if (status == STOCKADE_OK)
        status = stockade_spec_run(spec, &outcome, &error);
    if (status == STOCKADE_OK)
        status = stockade_outcome_to_json(outcome, &answer, &error);
    if (status == STOCKADE_OK)
        printf("%s\n%s\n", stockade_verdict_short(stockade_outcome_verdict(outcome)), answer);
    else
        fprintf(stderr, "%s\n", stockade_error_message(error));
    stockade_string_free(answer);
    stockade_outcome_free(outcome);
    stockade_error_free(error);
    stockade_spec_free(spec);
    return status;
}
