// Every sampler is compiled for int32 and int64 interactions and for int32 and int64 draws.
#pragma once

#include <cstdint>

#define FASTKD_FOR_EACH_ID_AND_OUT(instantiate)   \
    instantiate(std::int32_t, std::int32_t)       \
    instantiate(std::int32_t, std::int64_t)       \
    instantiate(std::int64_t, std::int32_t)       \
    instantiate(std::int64_t, std::int64_t)
