cmake_policy(SET CMP0079 NEW)
# ctd_module(NAME SOURCES ... [DEPS ...] [LIBS ...])
#
# One folder under host/ is one static library with one public header, NAME.h. DEPS are the rooms it
# may use (design: "a folder uses only what its arrow names"); LIBS are foreign libraries, kept PRIVATE
# so that no other room sees their headers.
function(ctd_module name)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPS;LIBS" ${ARGN})
  add_library(${name} STATIC ${arg_SOURCES})
  target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR}/host)
  target_link_libraries(${name} PUBLIC ${arg_DEPS} PRIVATE ${arg_LIBS} Threads::Threads)
  target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR}/sdk/include)
endfunction()
