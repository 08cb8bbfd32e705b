// One stencil: a work item walks along x and computes {{ job.rows }} rows x {{ job.vectors }} vectors of {{ job.vector_width }} voxels at a time.
// A loaded vector serves every row that needs it; weights that are zero do not appear.
{% include "common.cl" %}
{% set span = job.vector_width * job.vectors %}

__attribute__((reqd_work_group_size(1, 1, 1)))
__kernel void correlate(__global const source_t *restrict source, __global target_t *restrict target,
                        __global const sum_t *restrict weights, __global const long *restrict planes,
                        __global const long *axes, int axis_count, int width, int height,
                        long source_pitch, long target_pitch) {
    long source_start = 0, target_start = 0;
    find_row(get_global_id({{ job.outer_dimension }}), axis_count, axes, &source_start, &target_start);
    // The last rows and the last span are shifted back over their neighbours: the same voxels again, to the same bits.
    const long y = min((int)get_global_id({{ 1 - job.outer_dimension }}) * {{ job.rows }}, height - {{ job.rows }});
    source += source_start + y * source_pitch;
    target += target_start + y * target_pitch;

    for (int begin = 0; begin < width; begin += {{ span }}) {
        const int x = min(begin, width - {{ span }});
{% for row in range(job.rows) %}
        sums_t {% for v in range(job.vectors) %}sum{{ row }}_{{ v }} = 0{{ ";" if loop.last else ", " }}{% endfor %}

{% endfor %}
{% for run in job.runs %}

        // Planes {{ run.first }} to {{ run.stop - 1 }} of the stencil
        for (int plane = {{ run.first }}; plane < {{ run.stop }}; plane++) {
            __global const source_t *line = source + planes[plane] + x;
            __global const sum_t *weight = weights + plane * {{ job.weights_a_plane }};
{% for line in run.lines(job.rows) %}
{% for column in line %}
            {
{% for v in range(job.vectors) %}
                const sums_t part{{ v }} = LOAD(line + {{ column.x + v * job.vector_width }});
{% endfor %}
{% for row, y in column.uses %}
{% for v in range(job.vectors) %}
                sum{{ row }}_{{ v }} += part{{ v }} * weight[{{ y * job.weights_a_line + column.x }}];
{% endfor %}
{% endfor %}
            }
{% endfor %}
{% if not loop.last %}
            line += source_pitch;
{% endif %}
{% endfor %}
        }
{% endfor %}

{% for row in range(job.rows) %}
{% for v in range(job.vectors) %}
        STORE(target + {{ row }} * target_pitch + x + {{ v * job.vector_width }}, sum{{ row }}_{{ v }});
{% endfor %}
{% endfor %}
    }
}
