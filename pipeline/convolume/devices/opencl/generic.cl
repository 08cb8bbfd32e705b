// Any stencil on any extents: weights, taps and pitches are arguments, so one program serves all shapes.
{% include "common.cl" %}
{% set span = job.vector_width * job.vectors %}

{% if span > 1 %}
// {{ job.vectors }} neighbouring vectors, so that a weight once loaded serves them all.
inline void sum_span(__global const source_t *source, __global target_t *target, __global const sum_t *weights,
                     __global const long *taps, int tap_count) {
{% for v in range(job.vectors) %}
    sums_t sum{{ v }} = 0;
{% endfor %}
    for (int tap = 0; tap < tap_count; tap++) {
        __global const source_t *from = source + taps[tap];
        const sum_t weight = weights[tap];
{% for v in range(job.vectors) %}
        sum{{ v }} += LOAD(from + {{ v * job.vector_width }}) * weight;
{% endfor %}
    }
{% for v in range(job.vectors) %}
    STORE(target + {{ v * job.vector_width }}, sum{{ v }});
{% endfor %}
}

{% endif %}
inline void sum_voxel(__global const source_t *source, __global target_t *target, __global const sum_t *weights,
                      __global const long *taps, int tap_count) {
    sum_t sum = 0;
    for (int tap = 0; tap < tap_count; tap++)
        sum += (sum_t)source[taps[tap]] * weights[tap];
    *target = TO_TARGET(sum);
}

{% if job.on_cpu %}
__attribute__((reqd_work_group_size(1, 1, 1)))
{% endif %}
__kernel void correlate(__global const source_t *source, __global target_t *target, __global const sum_t *weights,
                        __global const long *taps, __global const long *axes, int axis_count, int tap_count, int width) {
    long source_start = 0, target_start = 0;
    find_row(get_global_id(1), axis_count, axes, &source_start, &target_start);
    source += source_start;
    target += target_start;
    const int first = get_global_id(0), step = get_global_size(0);
{% if span > 1 %}
    if (width >= {{ span }}) {
        // The last span is shifted back over its neighbour: the same voxels again, to the same bits.
        for (int begin = first * {{ span }}; begin < width; begin += step * {{ span }}) {
            const int x = min(begin, width - {{ span }});
            sum_span(source + x, target + x, weights, taps, tap_count);
        }
        return;
    }
{% endif %}
    for (int x = first; x < width; x += step)
        sum_voxel(source + x, target + x, weights, taps, tap_count);
}
