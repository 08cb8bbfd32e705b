// Any stencil of {{ job.ndim }} axes on voxels that stand anywhere: a work item is one voxel, and looks up every one that it weighs.
{% include "common.cl" %}

// `places` holds, for each axis, where its coordinates stand in the source; below 0 beyond a face.
inline sum_t voxel_at(__global const source_t *source, __global const long *tap, sum_t outside{% for axis in range(job.ndim) %}, __global const long *places{{ axis }}{% endfor %}) {
{% for axis in range(job.ndim) %}
    const long place{{ axis }} = places{{ axis }}[tap[{{ axis }}]];
{% endfor %}
    const bool is_outside = ({% for axis in range(job.ndim) %}place{{ axis }}{{ "" if loop.last else " | " }}{% endfor %}) < 0;
    return is_outside ? outside : (sum_t)source[{% for axis in range(job.ndim) %}place{{ axis }}{{ "" if loop.last else " + " }}{% endfor %}];
}
#define VOXEL_AT(tap) voxel_at(source, taps + (tap) * {{ job.ndim }}, outside{% for axis in range(job.ndim) %}, places + starts[{{ axis }}] + at{{ axis }}{% endfor %})

// `starts` holds, for each axis, where its places begin, its extent in the target and its pitch there.
__kernel void correlate(__global const source_t *restrict source, __global target_t *restrict target,
                        __global const sum_t *restrict weights, __global const long *restrict taps,
                        __global const long *restrict places, __global const long *restrict starts,
                        sum_t outside, int tap_count, int pair_count, long source_start, long target_start) {
    __global const long *extents = starts + {{ job.ndim }}, *pitches = extents + {{ job.ndim }};
    long left = get_global_id(0);
{% for axis in range(job.ndim - 1, -1, -1) %}
    const long at{{ axis }} = left % extents[{{ axis }}];
    left /= extents[{{ axis }}];
{% endfor %}
    source += source_start;
    target += target_start{% for axis in range(job.ndim) %} + at{{ axis }} * pitches[{{ axis }}]{% endfor %};
    sum_t sum = 0;
{% if job.as_box %}
    SUM_AS_BOX(sum_t, sum, tap_count, VOXEL_AT, taps + tap_count * {{ job.ndim }})
    sum *= weights[0];
{% else %}
    for (int tap = 0; tap < tap_count; tap++)
        sum += VOXEL_AT(tap) * weights[tap];
{% endif %}
{% if job.by_lines %}
    // Behind the taps stand first and second of each pair; behind the weights, those of pairs, their signs, the divisor.
    for (int pair = tap_count; pair < tap_count + pair_count; pair++) {
        const sum_t other = VOXEL_AT(pair + pair_count) * weights[pair + pair_count];
        sum += (VOXEL_AT(pair) + other) * weights[pair];
    }
    sum /= weights[tap_count + 2 * pair_count];
{% endif %}
    *target = TO_TARGET(sum);
}
