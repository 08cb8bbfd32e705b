// The arithmetic of {{ job.sources | length }} arrays, voxel by voxel, in one dtype; of one, its copy.
#pragma OPENCL FP_CONTRACT OFF
{% if job.needs_float64 %}
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
{% endif %}
typedef {{ job.target_type }} target_t;
#define PART(i, place) ((target_t)part##i[start##i + place##i])

// `axes` holds, for each outer axis from the innermost, its extent and its pitch in the target and in every part.
__kernel void join(__global target_t *target, long target_start{% for type in job.source_types %}, __global const {{ type }} *part{{ loop.index0 }}, long start{{ loop.index0 }}{% endfor %},
                   __global const long *axes, int axis_count) {
    long row = get_global_id(1);
    long place = get_global_id(0){% for _ in job.sources %}, place{{ loop.index0 }} = place{% endfor %};
    for (int axis = 0; axis < axis_count; axis++, axes += {{ 2 + job.sources | length }}) {
        const long at = row % axes[0];
        row /= axes[0];
        place += at * axes[1];
{% for _ in job.sources %}
        place{{ loop.index0 }} += at * axes[{{ 2 + loop.index0 }}];
{% endfor %}
    }
    target_t joined = PART(0, place);
{% if job.arithmetic == "magnitude" %}
    joined *= joined;
{% endif %}
{% for _ in job.sources[1:] %}
    {
        const target_t part = PART({{ loop.index }}, place);
        joined {{ {"add": "+= part", "subtract": "-= part", "magnitude": "+= part * part"}[job.arithmetic] }};
    }
{% endfor %}
    target[target_start + place] = {{ "sqrt(joined)" if job.arithmetic == "magnitude" else "joined" }};
}
