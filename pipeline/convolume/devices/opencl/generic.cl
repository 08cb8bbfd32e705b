// Any stencil on any extents: weights, taps and pitches are arguments, so one program serves all shapes.
{% include "common.cl" %}
{% set span = job.vector_width * job.vectors %}
{% set parameters = "int tap_count, int pair_count" if job.by_lines else "int tap_count" %}
{% set arguments = "tap_count, pair_count" if job.by_lines else "tap_count" %}

{% if span > 1 %}
// {{ job.vectors }} neighbouring vectors, so that a weight once loaded serves them all.
inline void sum_span(__global const source_t *source, __global target_t *target, __global const sum_t *weights,
                     __global const long *taps, {{ parameters }}) {
{% for v in range(job.vectors) %}
    sums_t sum{{ v }} = 0;
{% endfor %}
{% if job.as_box %}
{% for v in range(job.vectors) %}
#define PART{{ v }}(i) LOAD(source + taps[i] + {{ v * job.vector_width }})
    SUM_AS_BOX(sums_t, sum{{ v }}, tap_count, PART{{ v }}, taps + tap_count)
    sum{{ v }} *= weights[0];
{% endfor %}
{% else %}
    for (int tap = 0; tap < tap_count; tap++) {
        __global const source_t *from = source + taps[tap];
        const sum_t weight = weights[tap];
{% for v in range(job.vectors) %}
        sum{{ v }} += LOAD(from + {{ v * job.vector_width }}) * weight;
{% endfor %}
    }
{% endif %}
{% if job.by_lines %}
    // Behind the taps stand first and second of each pair; behind the weights, those of pairs, their signs, the divisor.
    for (int pair = tap_count; pair < tap_count + pair_count; pair++) {
        __global const source_t *from = source + taps[pair], *other = source + taps[pair + pair_count];
        const sum_t weight = weights[pair], sign = weights[pair + pair_count];
{% for v in range(job.vectors) %}
        sum{{ v }} += (LOAD(from + {{ v * job.vector_width }}) + LOAD(other + {{ v * job.vector_width }}) * sign) * weight;
{% endfor %}
    }
    const sum_t divisor = weights[tap_count + 2 * pair_count];
{% for v in range(job.vectors) %}
    sum{{ v }} /= divisor;
{% endfor %}
{% endif %}
{% for v in range(job.vectors) %}
    STORE(target + {{ v * job.vector_width }}, sum{{ v }});
{% endfor %}
}

{% endif %}
// Intel's compiler makes vectors of neighbouring taps, and adds them up in another order.
{% set in_order = "#pragma clang loop vectorize(disable)" if job.on_cpu else "" %}
inline void sum_voxel(__global const source_t *source, __global target_t *target, __global const sum_t *weights,
                      __global const long *taps, {{ parameters }}) {
    sum_t sum = 0;
{% if job.as_box %}
#define PART(i) (sum_t)source[taps[i]]
    SUM_AS_BOX(sum_t, sum, tap_count, PART, taps + tap_count)
    sum *= weights[0];
{% else %}
{{ in_order }}
    for (int tap = 0; tap < tap_count; tap++)
        sum += (sum_t)source[taps[tap]] * weights[tap];
{% endif %}
{% if job.by_lines %}
{{ in_order }}
    for (int pair = tap_count; pair < tap_count + pair_count; pair++) {
        const sum_t other = (sum_t)source[taps[pair + pair_count]] * weights[pair + pair_count];
        sum += ((sum_t)source[taps[pair]] + other) * weights[pair];
    }
    sum /= weights[tap_count + 2 * pair_count];
{% endif %}
    *target = TO_TARGET(sum);
}

{% if job.on_cpu %}
__attribute__((reqd_work_group_size(1, 1, 1)))
{% endif %}
__kernel void correlate(__global const source_t *source, __global target_t *target, __global const sum_t *weights,
                        __global const long *taps, __global const long *axes, int axis_count, int tap_count, int width{{ ", int pair_count" if job.by_lines }}) {
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
            sum_span(source + x, target + x, weights, taps, {{ arguments }});
        }
        return;
    }
{% endif %}
    for (int x = first; x < width; x += step)
        sum_voxel(source + x, target + x, weights, taps, {{ arguments }});
}
