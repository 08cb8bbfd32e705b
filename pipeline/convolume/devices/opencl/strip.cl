// One stencil: a work item computes {{ job.rows }} rows, neighbours along the stencil's first axis, x {{ job.vectors }} vectors of {{ job.vector_width }} voxels
// at a time, and walks along {{ "x" if job.walks_along_x else "another axis" }}. A loaded vector serves every row that needs it; weights that are zero do not appear.
{% include "common.cl" %}
{% set span = job.vector_width * job.vectors %}
{% if job.loose_pointers %}
#define PREFETCH(place) __builtin_prefetch((const void *)(ulong)(place), 0, 2)
{% else %}
#define PREFETCH(place)
{% endif %}

__attribute__((reqd_work_group_size(1, 1, 1)))
__kernel void correlate(__global const source_t *restrict source, __global target_t *restrict target,
                        __global const sum_t *restrict weights, __global const long *restrict lines,
                        __global const long *axes, int axis_count, int width, int height, int length, int parts,
                        long source_pitch, long target_pitch, long source_step, long target_step) {
    long source_start = 0, target_start = 0;
    find_row(get_global_id(2) / parts, axis_count, axes, &source_start, &target_start);
    // The last rows and the last span are shifted back over their neighbours: the same voxels again, to the same bits.
    const long row = min((int)get_global_id(1) * {{ job.rows }}, height - {{ job.rows }});
    const long part = get_global_id(2) % parts, first = length * part / parts, stop = length * (part + 1) / parts;
    source += source_start + row * source_pitch;
    target += target_start + row * target_pitch;

    for (long step = first; step < stop; step++) {
        const long x = min((int){{ "step" if job.walks_along_x else "get_global_id(0)" }} * {{ span }}, width - {{ span }});
        __global const source_t *here = source + step * source_step + x;
        __global target_t *there = target + step * target_step + x;
{% for row in range(job.rows) %}
        sums_t {% for v in range(job.vectors) %}sum{{ row }}_{{ v }} = 0{{ ";" if loop.last else ", " }}{% endfor %}

{% endfor %}
{% for runs in job.planes %}
        {
            __global const source_t *plane = here + {{ loop.index0 }} * source_pitch;
{% for run in runs %}
{% if run.stop - run.first > 1 %}
#pragma unroll 1
{% endif %}
            for (int line = {{ run.first }}; line < {{ run.stop }}; line++) {
                __global const source_t *from = plane + lines[line];
                __global const sum_t *weight = weights + line * {{ job.line_weights }};
{% for column in run.columns %}
                {
{% for v in range(job.vectors) %}
                    const sums_t part{{ v }} = LOAD(from + {{ column.x + v * job.vector_width }});
{% endfor %}
{% for row, place in column.uses %}
{% for v in range(job.vectors) %}
                    sum{{ row }}_{{ v }} += part{{ v }} * weight[{{ place * job.plane_weights + column.x }}];
{% endfor %}
{% endfor %}
                }
{% endfor %}
            }
{% endfor %}
{% if runs and not job.walks_along_x %}
            // What the next step reads first.
{% for x in range(0, span + job.line_weights - 1, job.cache_line_voxels) %}
            PREFETCH(plane + lines[{{ runs[-1].stop - 1 }}] + source_step + {{ x }});
{% endfor %}
{% endif %}
        }
{% endfor %}

{% for row in range(job.rows) %}
{% for v in range(job.vectors) %}
        STORE(there + {{ row }} * target_pitch + {{ v * job.vector_width }}, sum{{ row }}_{{ v }});
{% endfor %}
{% endfor %}
    }
}
