/* record, private: values as Java's toString() prints them, for StringConverter. */
#ifndef RECORD_JAVA_TEXT_H
#define RECORD_JAVA_TEXT_H

#include "connectd/sdk.h"

/* Appends the text. Lists are "[1, 2]", maps "{a=1}", null "null". CTD_E_DATA for bytes (Java would
 * print an address) and depth above 64, CTD_E_UNSUPPORTED for structs. */
ctd_status record_java_text(ctd_text *t, const ctd_value *v, ctd_error *err);

/* "string", "int64" ... as Connect names its types. */
const char *record_type_name(uint8_t type);

#endif
