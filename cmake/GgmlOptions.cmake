# The build options that a user may set: checked, and completed, before llama.cpp's own CMake files
# read them.
#
# They are set as normal variables, which ggml's option() calls respect: the cache then holds only
# what the user gave, and a later build in the same folder does not take ggml's defaults for the
# user's choices.

set(SHEILY_SET "--config-settings=cmake.define.")
set(SHEILY_X86_OPTIONS
    SSE42 AVX AVX2 BMI2 FMA F16C AVX_VNNI
    AVX512 AVX512_VBMI AVX512_VNNI AVX512_BF16
    AMX_TILE AMX_INT8 AMX_BF16)
set(SHEILY_OTHER_BACKENDS
    CANN CUDA ET HEXAGON HIP METAL MUSA OPENCL OPENVINO RPC SYCL VIRTGPU VULKAN WEBGPU ZDNN ZENDNN)

# Stops for an option that ggml does not have: CMake itself would ignore it.
function(sheily_refuse_unknown_options source_dir)
    set(known "")
    foreach(part "" src/ src/ggml-cpu/ src/ggml-blas/)
        file(READ "${source_dir}/ggml/${part}CMakeLists.txt" text)
        string(APPEND known "${text}")
    endforeach()
    get_cmake_property(names CACHE_VARIABLES)
    foreach(name IN LISTS names)
        if(name MATCHES "^GGML_" AND NOT known MATCHES "${name}[^A-Za-z0-9_]")
            get_property(help CACHE ${name} PROPERTY HELPSTRING)
            if(help MATCHES "specified on the command line")
                message(FATAL_ERROR "${name} is not a build option: check its name.")
            endif()
        endif()
    endforeach()
endfunction()

# Switches on the options that GGML_<option>=ON needs. An explicit OFF of one of those is refused.
macro(sheily_imply option)
    if(GGML_${option})
        foreach(needed ${ARGN})
            if(DEFINED GGML_${needed} AND NOT GGML_${needed})
                message(FATAL_ERROR "GGML_${option}=ON needs GGML_${needed}, which is switched off.")
            endif()
            set(GGML_${needed} ON)
        endforeach()
    endif()
endmacro()

# Undoes that ggml writes its own default of the vendor into the cache: the next configure in this
# folder would take it for the user's choice.
macro(sheily_keep_choices)
    if(GGML_BLAS)
        set(GGML_BLAS_VENDOR "${GGML_BLAS_VENDOR}" CACHE STRING "BLAS library" FORCE)
    else()
        unset(GGML_BLAS_VENDOR CACHE)
    endif()
endmacro()

# Lists the choices as GGML_<option>=<value>.
function(sheily_list_choices result)
    set(choices "")
    set(options NATIVE BLAS OPENMP LTO LLAMAFILE CPU_REPACK)
    if(GGML_BLAS)
        list(INSERT options 2 BLAS_VENDOR)
    endif()
    foreach(option IN LISTS options)
        list(APPEND choices "GGML_${option}=${GGML_${option}}")
    endforeach()
    foreach(option IN LISTS SHEILY_X86_OPTIONS)
        if(GGML_${option})
            list(APPEND choices "GGML_${option}=ON")
        endif()
    endforeach()
    if(GGML_CPU_ARM_ARCH)
        list(APPEND choices "GGML_CPU_ARM_ARCH=${GGML_CPU_ARM_ARCH}")
    endif()
    set(${result} "${choices}" PARENT_SCOPE)
endfunction()

macro(sheily_default option value)
    if(NOT DEFINED GGML_${option})
        set(GGML_${option} ${value})
    endif()
endmacro()

# Where SOURCE_DATE_EPOCH is set, ggml silently builds for no CPU in particular.
unset(ENV{SOURCE_DATE_EPOCH})
if(CMAKE_CROSSCOMPILING)
    sheily_default(NATIVE OFF)
    if(GGML_NATIVE)
        message(FATAL_ERROR
            "GGML_NATIVE=ON is for builds on the machine that runs them; this one is for another.")
    endif()
endif()
sheily_default(NATIVE ON)

set(SHEILY_FOR_X86 OFF)
set(SHEILY_FOR_ARM64 OFF)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64|i686)$")
    set(SHEILY_FOR_X86 ON)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64|ARM64)$")
    set(SHEILY_FOR_ARM64 ON)
endif()

if(GGML_CPU_ARM_ARCH)
    if(NOT SHEILY_FOR_ARM64)
        message(FATAL_ERROR "GGML_CPU_ARM_ARCH is for 64-bit ARM CPUs, and this build is for "
            "${CMAKE_SYSTEM_PROCESSOR}.")
    elseif(GGML_NATIVE)
        message(FATAL_ERROR
            "GGML_CPU_ARM_ARCH has no effect in a build for this machine's own CPU: add "
            "${SHEILY_SET}GGML_NATIVE=OFF to choose instruction sets, or leave it out.")
    endif()
endif()
foreach(option IN LISTS SHEILY_X86_OPTIONS)
    if(DEFINED GGML_${option})
        if(NOT SHEILY_FOR_X86)
            message(FATAL_ERROR
                "GGML_${option} is for x86 CPUs, and this build is for ${CMAKE_SYSTEM_PROCESSOR}.")
        elseif(GGML_NATIVE)
            message(FATAL_ERROR
                "GGML_${option} has no effect in a build for this machine's own CPU: add "
                "${SHEILY_SET}GGML_NATIVE=OFF to choose instruction sets, or leave it out.")
        endif()
    endif()
endforeach()

if(GGML_NATIVE OR NOT SHEILY_FOR_X86)
    foreach(option IN LISTS SHEILY_X86_OPTIONS)
        set(GGML_${option} OFF)
    endforeach()
    if(SHEILY_FOR_ARM64 AND NOT GGML_NATIVE AND NOT GGML_CPU_ARM_ARCH)
        # Dot products of 8-bit integers, which carry the speed: CPUs since 2018 have them. Not
        # +fp16: llama.cpp would then add up attention in half precision.
        set(GGML_CPU_ARM_ARCH "armv8.2-a+dotprod")
    endif()
else()
    # The baseline is AVX2 and what came with it (Intel 2013, AMD 2015).
    sheily_imply(AMX_INT8 AMX_TILE AVX512_VNNI)
    sheily_imply(AMX_BF16 AMX_TILE)
    sheily_imply(AVX512_VNNI AVX512)
    sheily_imply(AVX512_VBMI AVX512)
    sheily_imply(AVX512_BF16 AVX512)
    sheily_imply(AVX512 AVX2 FMA F16C)
    sheily_imply(AVX_VNNI AVX2)
    sheily_default(AVX2 ON)
    sheily_imply(AVX2 AVX)
    sheily_default(FMA ${GGML_AVX2})
    sheily_default(F16C ${GGML_AVX2})
    sheily_default(BMI2 ${GGML_AVX2})
    sheily_imply(FMA AVX)
    sheily_imply(F16C AVX)
    sheily_default(AVX ON)
    sheily_imply(AVX SSE42)
    sheily_default(SSE42 ON)
    foreach(option IN LISTS SHEILY_X86_OPTIONS)
        sheily_default(${option} OFF)
    endforeach()
endif()

foreach(backend IN LISTS SHEILY_OTHER_BACKENDS)
    if(GGML_${backend})
        message(FATAL_ERROR "GGML_${backend}: sheily_native runs on the CPU only; leave it out.")
    endif()
    set(GGML_${backend} OFF)
endforeach()

sheily_default(BLAS OFF)
if(GGML_BLAS)
    if(APPLE)
        sheily_default(BLAS_VENDOR Apple)
    endif()
    sheily_default(BLAS_VENDOR OpenBLAS)
    set(BLA_VENDOR ${GGML_BLAS_VENDOR})
    find_package(BLAS QUIET)
    if(NOT GGML_BLAS_VENDOR MATCHES "Apple")
        # Known here, ggml need not ask pkg-config, which may be missing.
        find_path(BLAS_INCLUDE_DIRS NAMES cblas.h
            PATH_SUFFIXES openblas openblas-pthread openblas-openmp
            HINTS /opt/homebrew/opt/openblas/include /usr/local/opt/openblas/include)
    endif()
    if(NOT BLAS_FOUND OR (NOT APPLE AND NOT BLAS_INCLUDE_DIRS))
        if(GGML_BLAS_VENDOR STREQUAL "OpenBLAS")
            message(FATAL_ERROR "GGML_BLAS=ON needs OpenBLAS, which was not found: install it "
                "(Debian, Ubuntu: sudo apt install libopenblas-dev), or leave GGML_BLAS out.")
        endif()
        message(FATAL_ERROR "GGML_BLAS_VENDOR=${GGML_BLAS_VENDOR}: this library and its cblas.h "
            "were not found; OpenBLAS is what is tested (${SHEILY_SET}GGML_BLAS_VENDOR=OpenBLAS).")
    endif()
elseif(DEFINED GGML_BLAS_VENDOR)
    message(FATAL_ERROR
        "GGML_BLAS_VENDOR has no effect alone: add ${SHEILY_SET}GGML_BLAS=ON, or leave it out.")
endif()

if(NOT DEFINED GGML_OPENMP OR GGML_OPENMP)
    find_package(OpenMP QUIET COMPONENTS C CXX)
    if(DEFINED GGML_OPENMP AND NOT OpenMP_FOUND)
        message(FATAL_ERROR "GGML_OPENMP=ON: this compiler has no OpenMP; install it (clang on "
            "Debian, Ubuntu: sudo apt install libomp-dev), or leave it out for ggml's own threads.")
    endif()
    set(GGML_OPENMP OFF)
    if(OpenMP_FOUND)
        set(GGML_OPENMP ON)
    endif()
endif()

sheily_default(LTO OFF)
if(GGML_LTO)
    include(CheckIPOSupported)
    check_ipo_supported(RESULT SHEILY_LTO_WORKS LANGUAGES C CXX)
    if(NOT SHEILY_LTO_WORKS)
        message(FATAL_ERROR "GGML_LTO=ON: this compiler cannot optimize at link time; leave it out.")
    endif()
    set(CMAKE_INTERPROCEDURAL_OPTIMIZATION ON)
endif()
