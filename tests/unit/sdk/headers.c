/* The headers twice, and what they hold inline: compiled under each C standard, never run. */
#include <connectd/abi.h>
#include <connectd/sdk.h>

#include <connectd/abi.h>
#include <connectd/sdk.h>

static const ctd_config_key keys[] = {
    CTD_KEY("a", CTD_CFG_STRING, CTD_CFGF_REQUIRED, NULL, "A."),
    CTD_KEY_RANGE("b", CTD_CFG_I64, 0, "1", 1, 2, "B."),
};
static const ctd_sink sink = {.base = {.struct_size = sizeof(ctd_sink)}};
static const ctd_class classes[] = {
    {.struct_size = sizeof(ctd_class), .config = keys, .n_config = 2, .ops = &sink.base},
};

CTD_MODULE(classes, NULL)

int headers_probe(const ctd_host *host, const ctd_sink *other, ctd_batch *batch);
int headers_probe(const ctd_host *host, const ctd_sink *other, ctd_batch *batch)
{
    ctd_batch moved;
    ctd_batch_move(&moved, batch);
    ctd_batch_free(&moved);
    return CTD_HAS(host, progress) && CTD_HAS_OP(other, flush);
}
