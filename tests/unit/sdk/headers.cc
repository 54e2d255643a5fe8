/* The headers as C++ sees them: compiled under each standard, never run. */
#include <connectd/abi.h>
#include <connectd/sdk.h>

#include <connectd/abi.h>
#include <connectd/sdk.h>

static const ctd_config_key keys[] = {
    CTD_KEY("a", CTD_CFG_STRING, CTD_CFGF_REQUIRED, nullptr, "A."),
    CTD_KEY_RANGE("b", CTD_CFG_I64, 0, "1", 1, 2, "B."),
};

static ctd_class make_class()
{
    ctd_class c = ctd_class();
    c.struct_size = sizeof(c);
    c.config = keys;
    c.n_config = 2;
    return c;
}

static const ctd_class classes[] = {make_class()};

CTD_MODULE(classes, nullptr)

int headers_probe(const ctd_host *host, const ctd_sink *other, ctd_batch *batch)
{
    ctd_batch moved;
    ctd_batch_move(&moved, batch);
    ctd_batch_free(&moved);
    ctd_value v = ctd_v_i64(1);
    return CTD_HAS(host, progress) && CTD_HAS_OP(other, flush) && ctd_v_is_int(&v);
}
