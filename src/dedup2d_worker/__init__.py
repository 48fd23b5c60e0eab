"""
Workers of dedup2d that run in processes of their own.

On one machine the service runs its jobs itself (`dedup2d.runner`) and nothing of this
package is needed.
"""
