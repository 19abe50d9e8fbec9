#!/bin/bash
# Labels a library on eight machines: sbatch slurm.sh. Submit it again after an interruption: what is complete is kept.
#SBATCH --job-name=rtseg
#SBATCH --array=1-8
#SBATCH --nodes=1
#SBATCH --exclusive
#SBATCH --requeue
# The folder of videos and the output must be on a file system that all machines share.
srun rtseg batch /shared/videos --output /shared/results --write shares,masks \
    --shard "${SLURM_ARRAY_TASK_ID}/${SLURM_ARRAY_TASK_MAX}"
