# CUDA: the compiler and the libraries of libterroir_cuda.so. Sets TERROIR_CUDA_FOUND, and defines
#   terroir::cuda_blas     cuBLASLt and the runtime; required
#   terroir::cuda_dnn      cuDNN and its header-only graph interface (cudnn-frontend), where both are found
#   terroir::nccl          where it is found
# Libraries come from the toolkit or from Python's packages (nvidia-cublas, nvidia-cudnn-cu13, nvidia-nccl-cu13, ...), which
# machines with PyTorch have. They are linked dynamically and never bundled.

set(TERROIR_CUDA AUTO CACHE STRING "Build libterroir_cuda.so, the CUDA backend: AUTO (where nvcc is found), ON or OFF")
set_property(CACHE TERROIR_CUDA PROPERTY STRINGS AUTO ON OFF)
set(TERROIR_CUDNN_FRONTEND_DIR "" CACHE PATH "Folder that holds cudnn_frontend.h; empty: looked for in Python's packages")

set(TERROIR_CUDA_FOUND FALSE)
if(NOT TERROIR_CUDA)
  return()
endif()
if(TERROIR_CUDA STREQUAL "AUTO" AND TERROIR_SANITIZE)
  return()  # sanitizers see device code on the CPU (tests/cuda_on_cpu)
endif()

function(terroir_no_cuda reason)
  if(TERROIR_CUDA STREQUAL "AUTO")
    message(STATUS "${reason}: libterroir_cuda.so is not built, training runs on the CPU")
  else()
    message(FATAL_ERROR "TERROIR_CUDA=${TERROIR_CUDA}, but: ${reason}")
  endif()
endfunction()

# PTX of compute_90 too, translated when the program starts, for every GPU after Hopper: kernels use nothing newer than
# sm_90, and PTX of a later architecture would not run on the ones between (compute_120's not on a B200, which is sm_100).
# sm_80's code runs on all 8.x.
if(NOT CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90)
endif()
if(NOT CMAKE_CUDA_HOST_COMPILER AND NOT DEFINED ENV{CUDAHOSTCXX})
  set(CMAKE_CUDA_HOST_COMPILER ${CMAKE_CXX_COMPILER})
endif()

include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  terroir_no_cuda("nvcc is not found")
  return()
endif()
enable_language(CUDA)
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)  # CMake 3.25 knows nvcc's flags up to C++17
endif()
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_EXTENSIONS OFF)
find_package(CUDAToolkit REQUIRED)

find_package(Python3 COMPONENTS Interpreter QUIET)
set(TERROIR_PYTHON_PACKAGES "")
if(Python3_FOUND)
  execute_process(COMMAND ${Python3_EXECUTABLE} -c
    "import sys; print(';'.join(path for path in sys.path if path.endswith('-packages')))"
    OUTPUT_VARIABLE TERROIR_PYTHON_PACKAGES OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
# What launch/cuda_tools.sh installs where the toolkit lacks it.
file(GLOB terroir_venv_packages ${CMAKE_BINARY_DIR}/cuda-venv/lib/python3*/site-packages)
list(APPEND TERROIR_PYTHON_PACKAGES ${terroir_venv_packages})

# terroir_cuda_library(NAME blas HEADER cublasLt.h LIBRARY cublasLt SONAME libcublasLt.so.13 WHEELS cu13 cublas): sets
# TERROIR_CUDA_<NAME>_INCLUDE_DIR and _LIBRARY. Wheels lack the link libX.so, so that the file is looked for by its soname.
function(terroir_cuda_library)
  cmake_parse_arguments(ARG "" "NAME;HEADER;LIBRARY;SONAME" "WHEELS" ${ARGN})
  set(folders "")
  foreach(packages ${TERROIR_PYTHON_PACKAGES})
    foreach(wheel ${ARG_WHEELS})
      list(APPEND folders ${packages}/nvidia/${wheel})
    endforeach()
  endforeach()
  find_path(TERROIR_CUDA_${ARG_NAME}_INCLUDE_DIR ${ARG_HEADER} HINTS ${CUDAToolkit_INCLUDE_DIRS} PATHS ${folders}
    PATH_SUFFIXES include)
  find_library(TERROIR_CUDA_${ARG_NAME}_LIBRARY NAMES ${ARG_LIBRARY} ${ARG_SONAME} HINTS ${CUDAToolkit_LIBRARY_DIR}
    PATHS ${folders} PATH_SUFFIXES lib lib64)
  mark_as_advanced(TERROIR_CUDA_${ARG_NAME}_INCLUDE_DIR TERROIR_CUDA_${ARG_NAME}_LIBRARY)
endfunction()

set(cuda_major ${CUDAToolkit_VERSION_MAJOR})
terroir_cuda_library(NAME BLAS HEADER cublasLt.h LIBRARY cublasLt SONAME libcublasLt.so.${cuda_major}
  WHEELS cu${cuda_major} cublas)
terroir_cuda_library(NAME DNN HEADER cudnn.h LIBRARY cudnn SONAME libcudnn.so.9 WHEELS cudnn)
terroir_cuda_library(NAME NVRTC HEADER nvrtc.h LIBRARY nvrtc SONAME libnvrtc.so.${cuda_major}
  WHEELS cu${cuda_major} cuda_nvrtc)
terroir_cuda_library(NAME NCCL HEADER nccl.h LIBRARY nccl SONAME libnccl.so.2 WHEELS nccl)
set(frontend_folders "")
foreach(packages ${TERROIR_PYTHON_PACKAGES})
  list(APPEND frontend_folders ${packages}/include ${packages}/nvidia/cudnn_frontend/include)
endforeach()
find_path(TERROIR_CUDA_DNN_FRONTEND_INCLUDE_DIR cudnn_frontend.h
  HINTS ${TERROIR_CUDNN_FRONTEND_DIR} ${TERROIR_CUDNN_FRONTEND_DIR}/include PATHS ${frontend_folders})
mark_as_advanced(TERROIR_CUDA_DNN_FRONTEND_INCLUDE_DIR)

if(NOT TERROIR_CUDA_BLAS_INCLUDE_DIR OR NOT TERROIR_CUDA_BLAS_LIBRARY)
  terroir_no_cuda("cuBLASLt (cublasLt.h, libcublasLt.so) is not found")
  return()
endif()
set(TERROIR_CUDA_FOUND TRUE)

add_library(terroir_cuda_blas INTERFACE)
target_include_directories(terroir_cuda_blas SYSTEM INTERFACE ${TERROIR_CUDA_BLAS_INCLUDE_DIR})
target_link_libraries(terroir_cuda_blas INTERFACE ${TERROIR_CUDA_BLAS_LIBRARY} CUDA::cudart)
add_library(terroir::cuda_blas ALIAS terroir_cuda_blas)

if(TERROIR_CUDA_DNN_INCLUDE_DIR AND TERROIR_CUDA_DNN_LIBRARY AND TERROIR_CUDA_DNN_FRONTEND_INCLUDE_DIR
    AND TERROIR_CUDA_NVRTC_INCLUDE_DIR AND TERROIR_CUDA_NVRTC_LIBRARY)
  add_library(terroir_cuda_dnn INTERFACE)
  target_include_directories(terroir_cuda_dnn SYSTEM INTERFACE ${TERROIR_CUDA_DNN_INCLUDE_DIR}
    ${TERROIR_CUDA_DNN_FRONTEND_INCLUDE_DIR} ${TERROIR_CUDA_NVRTC_INCLUDE_DIR})
  target_link_libraries(terroir_cuda_dnn INTERFACE ${TERROIR_CUDA_DNN_LIBRARY} ${TERROIR_CUDA_NVRTC_LIBRARY} CUDA::cudart)
  add_library(terroir::cuda_dnn ALIAS terroir_cuda_dnn)
elseif(TERROIR_CUDA_DNN_FRONTEND_INCLUDE_DIR)
  message(STATUS "No cuDNN and NVRTC found: the CUDA backend uses its own attention kernels only")
else()
  message(STATUS "No cudnn_frontend.h found (launch/cuda_tools.sh, or TERROIR_CUDNN_FRONTEND_DIR): "
    "the CUDA backend uses its own attention kernels only")
endif()

if(TERROIR_CUDA_NCCL_INCLUDE_DIR AND TERROIR_CUDA_NCCL_LIBRARY)
  add_library(terroir_nccl INTERFACE)
  target_include_directories(terroir_nccl SYSTEM INTERFACE ${TERROIR_CUDA_NCCL_INCLUDE_DIR})
  target_link_libraries(terroir_nccl INTERFACE ${TERROIR_CUDA_NCCL_LIBRARY} CUDA::cudart)
  add_library(terroir::nccl ALIAS terroir_nccl)
else()
  message(STATUS "No NCCL found: GPUs exchange tensors over the host's transport")
endif()
