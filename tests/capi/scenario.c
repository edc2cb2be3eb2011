/* One scenario through the C library: a specification as JSON on standard input; on standard output the outcome as
 * JSON and exit status 0, or the number of the error's kind, a line end and its message and exit status 1. */
#include <stockade.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *read_all(FILE *from)
{
    size_t size = 0, room = 65536;
    char *text = malloc(room);
    while (text) {
        size += fread(text + size, 1, room - size - 1, from);
        if (feof(from) || ferror(from))
            break;
        if (size + 1 == room) {
            room *= 2;
            char *larger = realloc(text, room);
            if (!larger)
                free(text);
            text = larger;
        }
    }
    if (text)
        text[size] = '\0';
    return text;
}

int main(void)
{
    stockade_spec *spec = NULL;
    stockade_outcome *outcome = NULL;
    stockade_error *error = NULL;
    char *json = NULL;
    char *text = read_all(stdin);
    if (!text)
        return 3;
    int status = stockade_spec_from_json(text, &spec, &error);
    if (status == STOCKADE_OK)
        status = stockade_spec_run(spec, &outcome, &error);
    if (status == STOCKADE_OK)
        status = stockade_outcome_to_json(outcome, &json, &error);
    if (status == STOCKADE_OK)
        puts(json);
    else
        printf("%d\n%s\n", stockade_error_kind(error), stockade_error_message(error));
    stockade_string_free(json);
    stockade_outcome_free(outcome);
    stockade_spec_free(spec);
    stockade_error_free(error);
    free(text);
    return status == STOCKADE_OK ? 0 : 1;
}
