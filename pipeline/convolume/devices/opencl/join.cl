// The arithmetic of {{ job.source_types | length }} arrays, voxel by voxel, in the dtype of the target; of one, its copy.
{% include "common.cl" %}
{% set parts = range(job.source_types | length) %}
#define PART(i) ((target_t)part##i[start##i + place##i])

// `axes` holds, for each axis from the innermost, its extent and its pitch in the target and in every part.
__kernel void correlate(__global target_t *target, {% for type in job.source_types %}__global const {{ type }} *part{{ loop.index0 }}, {% endfor %}
                        __global const long *axes, int axis_count, long start{% for i in parts %}, long start{{ i }}{% endfor %}) {
    long left = get_global_id(0), place = 0{% for i in parts %}, place{{ i }} = 0{% endfor %};
    for (int axis = 0; axis < axis_count; axis++, axes += {{ 2 + parts | length }}) {
        const long at = left % axes[0];
        left /= axes[0];
        place += at * axes[1];
{% for i in parts %}
        place{{ i }} += at * axes[{{ 2 + i }}];
{% endfor %}
    }
    target_t joined = PART(0);
{% if job.arithmetic == "magnitude" %}
    joined *= joined;
{% endif %}
{% for i in parts if i > 0 %}
    {
        const target_t part = PART({{ i }});
        joined {{ {"add": "+= part", "subtract": "-= part", "magnitude": "+= part * part"}[job.arithmetic] }};
    }
{% endfor %}
    target[start + place] = {{ "sqrt(joined)" if job.arithmetic == "magnitude" else "joined" }};
}
