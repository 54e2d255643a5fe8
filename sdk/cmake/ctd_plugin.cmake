# ctd_add_plugin(NAME SOURCES ... [LIBS ...])
#
# Makes NAME.so in <build>/plugins: one exported symbol (ctd_module_v1), everything else hidden, nothing left
# unresolved, and the symbols of static libraries not passed on. LIBS are linked PRIVATE. The target is NAME, so it
# can be given further properties. CTD_PLUGIN_OUTPUT_DIRECTORY puts it somewhere else.

function(ctd_add_plugin name)
  cmake_parse_arguments(arg "" "" "SOURCES;LIBS" ${ARGN})
  if(NOT arg_SOURCES)
    message(FATAL_ERROR "ctd_add_plugin(${name}): SOURCES is missing")
  endif()
  set(map ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/plugin.map)
  if(NOT CTD_PLUGIN_OUTPUT_DIRECTORY)
    set(CTD_PLUGIN_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/plugins)
  endif()
  add_library(${name} MODULE ${arg_SOURCES})
  set_target_properties(${name} PROPERTIES
    PREFIX ""
    SUFFIX ".so"
    C_VISIBILITY_PRESET hidden
    CXX_VISIBILITY_PRESET hidden
    VISIBILITY_INLINES_HIDDEN ON
    LIBRARY_OUTPUT_DIRECTORY ${CTD_PLUGIN_OUTPUT_DIRECTORY}
    LINK_DEPENDS ${map})
  target_link_libraries(${name} PRIVATE connectd::sdk ${arg_LIBS})
  target_link_options(${name} PRIVATE
    -Wl,--version-script=${map} -Wl,-z,defs -Wl,--exclude-libs,ALL)
endfunction()
