# What every target of ours shares: warnings as errors, sanitizers, includes from the repository root.

add_library(terroir_options INTERFACE)
target_include_directories(terroir_options INTERFACE $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}>)
# -ffp-contract=off: initial weights have the same bits on every machine; kernels ask for FMA explicitly.
# missing-field-initializers: designated initializers leave members to their defaults on purpose. restrict: false
# alarms of g++ 12 on "literal" + std::string (GCC bug 105651).
set(terroir_host_options -Wall -Wextra -Werror -Wno-missing-field-initializers -Wno-restrict -ffp-contract=off)
# nvcc's own warnings, and the host compiler's of what nvcc hands it. FMT_USE_CONSTEXPR: fmt 9 knows no nvcc and switches
# off the checks of format strings that base/error.h needs.
list(JOIN terroir_host_options "," terroir_forwarded_options)
target_compile_options(terroir_options INTERFACE
  "$<$<COMPILE_LANGUAGE:C,CXX>:${terroir_host_options}>"
  "$<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings;-Xcompiler=${terroir_forwarded_options}>")
target_compile_definitions(terroir_options INTERFACE $<$<COMPILE_LANGUAGE:CUDA>:FMT_USE_CONSTEXPR=1>)
if(TERROIR_SANITIZE)
  target_compile_options(terroir_options INTERFACE -fsanitize=${TERROIR_SANITIZE} -fno-omit-frame-pointer -g1)
  target_link_options(terroir_options INTERFACE -fsanitize=${TERROIR_SANITIZE})
  if(TERROIR_SANITIZE MATCHES "undefined")
    target_compile_options(terroir_options INTERFACE -fno-sanitize-recover=undefined)
  endif()
endif()

# terroir_library(NAME folder SOURCES ... PUBLIC ... PRIVATE ...): static library terroir_NAME, alias terroir::NAME.
function(terroir_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  add_library(terroir_${name} STATIC ${ARG_SOURCES})
  add_library(terroir::${name} ALIAS terroir_${name})
  target_link_libraries(terroir_${name} PUBLIC ${ARG_PUBLIC} PRIVATE terroir_options ${ARG_PRIVATE})
  target_include_directories(terroir_${name} PUBLIC $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}>)
  if(TERROIR_SANITIZE)
    target_link_options(terroir_${name} PUBLIC -fsanitize=${TERROIR_SANITIZE})
  endif()
endfunction()
